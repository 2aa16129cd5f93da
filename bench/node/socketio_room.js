// Peer: rooms on Node socket.io, WebSocket transport, events `join` and `msg`.
import { createServer } from 'node:http';
import { Server } from 'socket.io';

const http = createServer();
const io = new Server(http, { transports: ['websocket'], perMessageDeflate: false, httpCompression: false, serveClient: false });
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
