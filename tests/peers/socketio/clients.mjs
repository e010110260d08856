// Many Socket.IO clients in one process, each request of each client through a random node.
//
// Started as `node clients.mjs '{"ports": [8080, 8081], "clients": 200}'`. Writes one JSON object a
// line to stdout: {"event", "client", …}. Reads commands from stdin, one a line: `say` makes every
// client say a word to its backend and report the answer; `end` closes all and exits.
//
// Like a browser behind DNS round robin it keeps its cookies, also when it reconnects, and tries
// the next address where a connection is refused.

import http from "node:http";
import net from "node:net";
import readline from "node:readline";
import { io } from "socket.io-client";

const { ports, clients } = JSON.parse(process.argv[2]);
const report = (event, client, more = {}) =>
  console.log(JSON.stringify({ event, client, ...more }));

class RandomNodeAgent extends http.Agent {
  createConnection(options, callback) {
    const order = ports.map((port) => [Math.random(), port]).sort((a, b) => a[0] - b[0]);
    const tryNext = (lastError) => {
      if (order.length === 0) return callback(lastError);
      const socket = net.connect({ host: "127.0.0.1", port: order.pop()[1] });
      const refused = (error) => tryNext(error);
      socket.once("error", refused);
      socket.once("connect", () => {
        socket.off("error", refused);
        callback(null, socket);
      });
    };
    tryNext(new Error("no ports"));
  }
}

const agent = new RandomNodeAgent({ keepAlive: false });

function start(client) {
  const socket = io(`http://127.0.0.1:${ports[0]}`, {
    agent,
    forceNew: true,
    query: { user: `user-${client}` },
    withCredentials: true, // socket.io-client then keeps cookies, though only per connection
    reconnectionDelay: 100,
    reconnectionDelayMax: 500,
  });
  const manager = socket.io;
  const keepCookies = () => {
    const cookies = [...manager.engine._cookieJar.cookies];
    if (cookies.length > 0) {
      const header = cookies.map(([name, { value }]) => `${name}=${value}`).join("; ");
      manager.opts.extraHeaders = { cookie: header };
    }
  };
  manager.on("open", () => manager.engine.once("upgrade", () => report("upgrade", client)));
  socket.on("welcome", ({ backend, visits }) => {
    keepCookies();
    report("welcome", client, { backend, visits });
  });
  socket.on("said", ({ backend }) => report("said", client, { backend }));
  socket.on("connect_error", (error) =>
    report("connect_error", client, {
      message: error.message,
      body: error.context?.responseText ?? "",
    }),
  );
  socket.on("disconnect", (reason, details) =>
    report("disconnect", client, { reason, body: details?.context?.responseText ?? "" }),
  );
  return socket;
}

const sockets = Array.from({ length: clients }, (_, client) => start(client));

readline.createInterface({ input: process.stdin }).on("line", (command) => {
  if (command === "end") {
    sockets.forEach((socket) => socket.close());
    process.exit(0);
  }
  sockets.forEach((socket, client) =>
    socket.emit("say", "hello", (answer) => report("answer", client, answer)),
  );
});
