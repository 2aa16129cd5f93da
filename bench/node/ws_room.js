// Peer: rooms on Node ws. Messages {"event":"join"|"msg","room":…,"data":…}; every member gets a copy.
import { WebSocketServer } from 'ws';

const rooms = new Map();
const server = new WebSocketServer({ host: '127.0.0.1', port: Number(process.argv[2] ?? 0), path: '/ws', perMessageDeflate: false, backlog: 4096 });
server.on('listening', () => console.log(`ready ${server.address().port}`));
server.on('connection', (socket) => {
  const joined = new Set();
  socket.on('message', (bytes) => {
    const { event, room, data } = JSON.parse(bytes);
    if (event === 'join') {
      if (!rooms.has(room)) rooms.set(room, new Set());
      rooms.get(room).add(socket);
      joined.add(room);
      socket.send(JSON.stringify({ event: 'joined', room }));
    } else if (event === 'msg') {
      // Encoded once; a Buffer saves ws the conversion for every member.
      const out = Buffer.from(JSON.stringify({ event, room, data }));
      for (const member of rooms.get(room) ?? []) member.send(out, { binary: false });
    }
  });
  socket.on('error', () => {});
  socket.on('close', () => joined.forEach((room) => rooms.get(room).delete(socket)));
});
