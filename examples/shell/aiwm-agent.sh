#!/bin/sh
# An AIWM agent with curl alone, over long-polling: answers what users say in its conversation.
#
#   AIWM_AGENT_ID=… AIWM_AGENT_SECRET=… sh aiwm-agent.sh HOST PORT [--once]
#
# With --once it ends after its first answer.
set -u
. "$(dirname "$0")/polling.sh"

namespace=/dev/aiwm/chat
engine_show() { :; }

answer=$(curl -sS -H 'Content-Type: application/json' --data-binary "{\"secret\":\"$(json "$AIWM_AGENT_SECRET")\"}" \
    "http://$1:$2/dev/aiwm/agents/$AIWM_AGENT_ID/connect") || exit 1
token=$(text_of accessToken "$answer")
if [ -z "$token" ]; then
    echo "no token: $(text_of message "$answer")" >&2
    exit 1
fi

engine_open "http://$1:$2" || exit 1
engine_send "40$namespace,{\"token\":\"$token\"}"
engine_await "40$namespace,{" && engine_await "42$namespace,[\"presence:update\"," || exit 1
conversation=$(text_of conversationId "$packet")
echo "conversation $conversation"
while engine_await "42$namespace,[\"message:new\","; do
    case $packet in
    *'"role":"user"'*) ;;
    *) continue ;;
    esac
    said=$(text_of content "$packet")
    engine_send "42$namespace,1[\"message:send\",{\"conversationId\":\"$conversation\",\"role\":\"assistant\",\"content\":\"You said: $said\"}]"
    engine_await "43$namespace,1[" || exit 1
    echo "answered $said"
    if [ "${3-}" = --once ]; then
        engine_send 1
        exit 0
    fi
done
exit 1
