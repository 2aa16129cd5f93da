# Engine.IO with curl alone: for scripts that read this file with `.`.
#
# engine_open URL opens a session, engine_send PACKET brings a packet, engine_await BEGINNING waits for one and leaves it in
# $packet; pings are answered on the way. engine_show PACKET is called for every other packet.

. "$(dirname "$0")/json.sh"

newline='
'
engine=
queue=

engine_open() {
    opened=$(curl -sS --fail "$1/socket.io/?EIO=4&transport=polling") || return 1
    sid=$(printf '%s' "$opened" | sed -n 's/.*"sid":"\([^"]*\)".*/\1/p')
    engine="$1/socket.io/?EIO=4&transport=polling&sid=$sid"
}

engine_send() {
    curl -sS --fail --output /dev/null -H 'Content-Type: text/plain;charset=UTF-8' --data-binary "$1" "$engine"
}

# Takes the next packet; asks the server only when none is left.
engine_next() {
    while [ -z "$queue" ]; do
        # Packets of one answer are separated by the character 0x1E.
        answer=$(curl -sS --fail "$engine") || return 1
        queue=$(printf '%s' "$answer" | tr '\036' '\n')
    done
    packet=${queue%%"$newline"*}
    case $queue in
    *"$newline"*) queue=${queue#*"$newline"} ;;
    *) queue= ;;
    esac
}

engine_await() {
    while engine_next; do
        case $packet in
        "$1"*) return 0 ;;
        2) engine_send 3 || return 1 ;;
        1 | 41* | 44*)
            echo "refused: $packet" >&2
            return 1
            ;;
        *) engine_show "$packet" ;;
        esac
    done
    return 1
}
