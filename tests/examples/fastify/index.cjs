const fastify = require("fastify")();
