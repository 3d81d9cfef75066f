import { H3 } from "h3";
