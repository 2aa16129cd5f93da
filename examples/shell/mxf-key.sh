#!/bin/sh
# An MXF agent with wscat: comes in by its channel key in a header, says one thing in the key's channel and prints what comes.
#
#   MXF_KEY_ID=… MXF_SECRET_KEY=… sh mxf-key.sh HOST PORT [--once]
#
# What a person would type is written by this script: `40` to come in, `3` for every ping. With --once it ends when its
# message is acknowledged.
set -u
. "$(dirname "$0")/sockets.sh"

socket_open "ws://$1:$2/socket.io/?EIO=4&transport=websocket" -H "Authorization: Bearer $MXF_KEY_ID:$MXF_SECRET_KEY"
while socket_next; do
    case $line in
    '0{'*) socket_send 40 ;;
    2) socket_send 3 ;;
    '44{'* | '42["auth:error",'*)
        echo "$(text_of error "$line")" >&2
        exit 1
        ;;
    '42["auth:success",'*)
        channel=$(text_of channelId "$line")
        echo "in $channel"
        socket_send "421[\"message:send\",{\"channelId\":\"$channel\",\"content\":\"typed by hand\"}]"
        ;;
    '42["message",'*) echo "$(text_of from "$line"): $(text_of content "$line")" ;;
    '431['*) [ "${3-}" != --once ] || exit 0 ;;
    esac
done
exit 1
