import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import "./site.css";

function Counter() {
  const [count, setCount] = useState(0);
  return (
    <button onClick={() => setCount(count + 1)}>
      {import.meta.env.VITE_VCLONE_ENV}: {count}
    </button>
  );
}

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <Counter />
  </StrictMode>,
);
