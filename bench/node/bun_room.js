// Peer: rooms on Bun, whose WebSocket server is a descendant of uWebSockets; topics do the fan-out.
const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(process.argv[2] ?? 0),
  fetch: (request, server) => (server.upgrade(request) ? undefined : new Response('WebSocket only', { status: 426 })),
  websocket: {
    perMessageDeflate: false,
    backpressureLimit: 64 * 1024 * 1024,
    message(socket, text) {
      const { event, room, data } = JSON.parse(text);
      if (event === 'join') {
        socket.subscribe(room);
        socket.send(JSON.stringify({ event: 'joined', room }));
      } else if (event === 'msg') {
        server.publish(room, JSON.stringify({ event, room, data }));
      }
    },
  },
});
console.log(`ready ${server.port}`);
