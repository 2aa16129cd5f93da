#!/bin/sh
# A Hive dashboard: asks for the server's health with curl, then prints with wscat what it watches.
#
#   [HIVE_TOKEN=…] sh hive-dashboard.sh HOST PORT [--once]
#
# Without a token only from the same machine. With --once it ends after the first new agent.
set -u
. "$(dirname "$0")/sockets.sh"

health=$(curl -sS "http://$1:$2/health") || exit 1
echo "health: $(text_of status "$health")"
socket_open "ws://$1:$2/ws${HIVE_TOKEN:+?token=$HIVE_TOKEN}"
while socket_next; do
    case $line in
    *'"type":"hive_status_update"'*) echo "status: $(text_of status "$line")" ;;
    *'"type":"agent_created"'*)
        echo "new agent $(text_of id "${line#*\"agent\":}")"
        [ "${3-}" != --once ] || exit 0
        ;;
    *'"type":"system_alert"'*) echo "alert: $(text_of title "$line")" ;;
    *'"type":"resource_alert"'*) echo "alert: $(text_of resource "$line") is used too much" ;;
    *'"type":"error"'*) echo "$(text_of code "$line"): $(text_of error "$line")" >&2 ;;
    *) echo "$(text_of type "$line")" ;;
    esac
done
echo "the connection ended" >&2
exit 1
