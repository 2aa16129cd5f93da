#!/bin/sh
# An Open-A.G.I subscriber: gets a token for a node and the network's state with curl, then prints network events with wscat.
#
#   sh open-agi-subscriber.sh HOST PORT NODE_ID [--once]
#   OPEN_AGI_TOKEN=… sh open-agi-subscriber.sh HOST PORT '' [--once]
#
# With --once it ends after the first event.
set -u
. "$(dirname "$0")/sockets.sh"

api=http://$1:$2/api/v1
token=${OPEN_AGI_TOKEN-}
if [ -z "$token" ]; then
    answer=$(curl -sS -H 'Content-Type: application/json' \
        --data-binary "{\"node_id\":\"$(json "$3")\",\"public_key\":\"ZXhhbXBsZQ==\"}" "$api/auth/token") || exit 1
    token=$(text_of token "$answer")
    if [ -z "$token" ]; then
        echo "no token: $(text_of message "$answer")" >&2
        exit 1
    fi
fi
state=$(curl -sS -H "Authorization: Bearer $token" "$api/status") || exit 1
echo "network: $(text_of status "$state")"
socket_open "ws://$1:$2/api/v1/ws?token=$token" --execute '{"type":"subscribe","channel":"network_events"}' --wait -1
while socket_next; do
    case $line in
    *'"type":"subscribed"'*) echo 'subscribed to network_events' ;;
    *'"type":"network_event"'*)
        echo "$(text_of event "$line") $(text_of node_id "$line")"
        [ "${4-}" != --once ] || exit 0
        ;;
    *'"type":"error"'*) echo "$(text_of code "$line"): $(text_of message "$line")" >&2 ;;
    esac
done
echo "the connection ended" >&2
exit 1
