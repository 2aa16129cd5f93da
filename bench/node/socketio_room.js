// Peer: rooms on Node socket.io, WebSocket transport, events `join` and `msg`; with the argument `recovery`, clients that come
// back get what they missed.
import { createServer } from 'node:http';
import { Server } from 'socket.io';

const http = createServer();
const recovery = process.argv[3] === 'recovery' ? { connectionStateRecovery: {} } : {};
const io = new Server(http, { transports: ['websocket'], perMessageDeflate: false, httpCompression: false, serveClient: false, ...recovery });
io.on('connection', (socket) => {
  socket.on('join', (room) => {
    socket.join(room);
    socket.emit('joined', room);
  });
  socket.on('msg', (msg, ack) => {
    io.to(msg.room).emit('msg', msg);
    if (ack) ack('ok');
  });
});
http.listen({ host: '127.0.0.1', port: Number(process.argv[2] ?? 0), backlog: 4096 }, () => console.log(`ready ${http.address().port}`));
