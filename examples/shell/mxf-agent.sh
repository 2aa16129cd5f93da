#!/bin/sh
# An MXF agent with curl alone, over long-polling: logs in as a user, registers an agent, says one thing in its channel and
# prints what is said there.
#
#   MXF_DOMAIN_KEY=… MXF_USERNAME=… MXF_PASSWORD=… sh mxf-agent.sh HOST PORT CHANNEL [--once]
#
# With --once it ends when its message is acknowledged.
set -u
. "$(dirname "$0")/polling.sh"

channel=$(json "$3")
agent="$(json "$MXF_USERNAME")-shell"

engine_show() {
    case $1 in
    '42["message",'*) echo "$(text_of from "$1"): $(text_of content "$1")" ;;
    '42["auth:error",'*)
        echo "$(text_of error "$1")" >&2
        exit 1
        ;;
    esac
}

engine_open "http://$1:$2" || exit 1
engine_send "40{\"domainKey\":\"$(json "$MXF_DOMAIN_KEY")\",\"username\":\"$(json "$MXF_USERNAME")\",\"password\":\"$(json "$MXF_PASSWORD")\"}"
engine_await '40{' && engine_await '42["auth:success",' || exit 1
# The number before the bracket asks for an acknowledgement; it comes back behind 43.
engine_send "421[\"agent:register\",{\"agentId\":\"$agent\",\"name\":\"Shell agent\",\"channelId\":\"$channel\"}]"
engine_await '431[' || exit 1
case $packet in
*'"success":true'*) echo "registered $agent in $3" ;;
*)
    echo "$packet" >&2
    exit 1
    ;;
esac
engine_send "422[\"message:send\",{\"channelId\":\"$channel\",\"content\":\"$agent is here\"}]"
engine_await '432[' || exit 1
if [ "${4-}" = --once ]; then
    engine_send 1
    exit 0
fi
engine_await 'nothing begins like this'
