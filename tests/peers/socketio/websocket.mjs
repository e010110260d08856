// Both ends of WebSockets by the library `ws`, the counterpart of tests/peers/backends/websocket.py.
//
// `node websocket.mjs server PORT [CERT KEY]` serves, with files by TLS: `/echo` returns each message and takes subprotocol `b`;
// `/ping` pings the client and says `ponged` when it has answered; `/close` answers the first
// message by closing with 4001. A plain GET of `/closes` lists the codes that clients closed with.
//
// `node websocket.mjs client URL` tries all of that and prints what it saw as one JSON object.

import fs from "node:fs";
import http from "node:http";
import https from "node:https";
import { once } from "node:events";
import { WebSocket, WebSocketServer } from "ws";

const LARGE_BYTES = 16 * 2 ** 20;
const [role, place, cert, key] = process.argv.slice(2);

function serve(port) {
  const closes = [];
  const tell = (request, response) => {
    const body = JSON.stringify(closes);
    response.writeHead(200, { "Content-Length": body.length }).end(body);
  };
  const server = cert
    ? https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, tell)
    : http.createServer(tell);
  const sockets = new WebSocketServer({
    server,
    perMessageDeflate: true,
    handleProtocols: (protocols) => (protocols.has("b") ? "b" : false),
  });
  sockets.on("connection", (socket, request) => {
    socket.on("error", () => {});
    socket.on("close", (code, reason) => closes.push([code, reason.toString()]));
    if (request.url === "/ping") {
      socket.on("pong", (payload) => socket.send(`ponged ${payload}`));
      socket.ping("from the server");
    }
    socket.on("message", (message, isBinary) => {
      if (request.url === "/close") socket.close(4001, "as asked");
      else socket.send(message, { binary: isBinary });
    });
  });
  server.listen(port, "127.0.0.1");
}

async function open(url) {
  const socket = new WebSocket(url, ["a", "b"], { perMessageDeflate: true });
  socket.heard = [];
  socket.wake = () => {};
  socket.on("message", (message, isBinary) => {
    socket.heard.push(isBinary ? message : message.toString());
    socket.wake();
  });
  await once(socket, "open");
  return socket;
}

async function next(socket) {
  while (socket.heard.length === 0) await new Promise((resolve) => (socket.wake = resolve));
  return socket.heard.shift();
}

async function tryAll(url) {
  const saw = {};
  const echo = await open(`${url}/echo`);
  saw.protocol = echo.protocol;
  saw.extension = echo.extensions.split(";")[0];
  saw.echoes = [];
  for (const text of ["", "short", "ä".repeat(100), "x".repeat(70_000)]) {
    echo.send(text);
    saw.echoes.push((await next(echo)) === text);
  }
  const large = Buffer.alloc(LARGE_BYTES, Buffer.from(Array.from({ length: 251 }, (_, n) => n)));
  echo.send(large, { compress: false });
  saw.large = large.equals(await next(echo));
  const pong = once(echo, "pong");
  for (const [part, fin] of [["one ", false], ["two ", false], ["three", true]]) {
    echo.send(part, { fin, compress: false });
    if (part === "one ") echo.ping("between fragments");
  }
  saw.pong = (await pong)[0].toString();
  saw.fragmented = await next(echo);
  echo.close(4002, "enough");
  await once(echo, "close");

  const ping = await open(`${url}/ping`);
  saw.ponged = await next(ping);
  ping.terminate();

  const closing = await open(`${url}/close`);
  closing.send("close");
  const [code, reason] = await once(closing, "close");
  saw.closed = [code, reason.toString()];
  console.log(JSON.stringify(saw));
}

if (role === "server") serve(Number(place));
else await tryAll(place);
