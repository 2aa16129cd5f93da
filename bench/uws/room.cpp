// Peer: rooms on uWebSockets; topics do the fan-out. A message is found by its fields' positions and passed on as it came.
#include "App.h"
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>

struct Nothing {};

static std::string_view field(std::string_view json, std::string_view name) {
    size_t at = json.find(name);
    if (at == json.npos) return {};
    std::string_view rest = json.substr(at + name.size());
    return rest.substr(0, rest.find('"'));
}

int main(int argc, char **argv) {
    uWS::App app;
    app.ws<Nothing>("/ws", {
        .compression = uWS::DISABLED,
        .maxPayloadLength = 1024 * 1024,
        .maxBackpressure = 64 * 1024 * 1024,
        .message = [&app](auto *socket, std::string_view text, uWS::OpCode) {
            std::string_view event = field(text, "\"event\":\""), room = field(text, "\"room\":\"");
            if (event == "join") {
                socket->subscribe(room);
                socket->send("{\"event\":\"joined\",\"room\":\"" + std::string(room) + "\"}", uWS::OpCode::TEXT);
            } else if (event == "msg") {
                app.publish(room, text, uWS::OpCode::TEXT);
            }
        },
    });
    app.listen("127.0.0.1", argc > 1 ? std::atoi(argv[1]) : 0, [](us_listen_socket_t *socket) {
        if (!socket) std::exit(1);
        std::cout << "ready " << us_socket_local_port(0, (us_socket_t *) socket) << std::endl;
    });
    app.run();
}
