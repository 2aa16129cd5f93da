#!/bin/sh
# A MegaBot chat: logs in with curl, enters a session with wscat, says one thing and prints what others say there.
#
#   [MEGABOT_USERNAME=… MEGABOT_PASSWORD=…] sh megabot-chat.sh HOST PORT SESSION TEXT [--once]
#
# Without name and password it comes as a guest, which is possible only from the same machine. With --once it ends after
# the first message of somebody else.
set -u
. "$(dirname "$0")/sockets.sh"

token=
if [ -n "${MEGABOT_USERNAME-}" ]; then
    answer=$(curl -sS -H 'Content-Type: application/json' \
        --data-binary "{\"username\":\"$(json "$MEGABOT_USERNAME")\",\"password\":\"$(json "$MEGABOT_PASSWORD")\"}" \
        "http://$1:$2/api/auth/login") || exit 1
    token=$(text_of token "$answer")
    if [ -z "$token" ]; then
        echo "no login: $(text_of error "$answer")" >&2
        exit 1
    fi
fi
session=$(json "$3")
socket_open "ws://$1:$2/ws${token:+?token=$token}" --wait -1 \
    --execute "{\"id\":\"1\",\"type\":\"session_join\",\"payload\":{\"session_id\":\"$session\"}}" \
    --execute "{\"id\":\"2\",\"type\":\"chat_send\",\"payload\":{\"session_id\":\"$session\",\"content\":\"$(json "$4")\"}}"
while socket_next; do
    case $line in
    *'"type":"connection_established"'*) echo "connected as $(text_of user_id "$line")" ;;
    *'"type":"session_joined"'*) echo "in $3" ;;
    *'"type":"chat_receive"'*)
        echo "$(text_of user_id "${line#*\"payload\":}"): $(text_of content "$line")"
        [ "${5-}" != --once ] || exit 0
        ;;
    *'"type":"error"'* | *'"type":"connection_error"'*) echo "$(text_of message "$line")" >&2 ;;
    esac
done
echo "the connection ended" >&2
exit 1
