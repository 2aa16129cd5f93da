# A little JSON for scripts that read this file with `.`: enough for what these samples send and look for.

# A text as it stands in JSON, without quotes around it.
json() {
    printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g'
}

# The first text of a name in some JSON, as it stands there; nothing if it has none.
text_of() {
    case $2 in
    *"\"$1\":\""*) printf '%s' "${2#*\""$1"\":\"}" | sed -E 's/^(([^"\\]|\\.)*)".*/\1/' ;;
    esac
}
