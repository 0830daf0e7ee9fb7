#!/usr/bin/env bash
# Lets a new machine join the Swarm that runbookd keeps: user data for cloud-init, on Debian, Ubuntu and Amazon Linux with Docker installed, by the image
# or by an earlier part of the user data. Needs curl, and python3, which cloud-init itself needs. Run again, in a Swarm, it does nothing.
#
#   RUNBOOKD_URL              runbookd, as the machine reaches it: https://runbookd.example.com
#   RUNBOOKD_JOIN_TOKEN_FILE  a file with the token of join.token_file; fetch it there first, for user data itself can be read by whatever runs on the
#                             machine. Or RUNBOOKD_JOIN_TOKEN.
#   RUNBOOKD_ROLE             worker (if it is not said), or manager
#   RUNBOOKD_INSTANCE         what the provider calls this machine; if it is not said, AWS is asked (IMDSv2)
#   RUNBOOKD_WAIT             seconds to keep trying, each time anew for Docker, AWS and runbookd; 1800 if it is not said
#
# The engine gets the label runbookd.instance=ID before it joins: by it runbookd knows which node is which machine of a group. No token is ever printed,
# or an argument of a program.
# However this was called: a trace would show the tokens.
set +x
set -euo pipefail

url=${RUNBOOKD_URL:-}
role=${RUNBOOKD_ROLE:-worker}
wait=${RUNBOOKD_WAIT:-1800}
socket=${RUNBOOKD_DOCKER_SOCKET:-/var/run/docker.sock}
daemon=${RUNBOOKD_DAEMON_JSON:-/etc/docker/daemon.json}

say() { echo "runbookd join: $*" >&2; }

die() {
    say "$*"
    exit 1
}

# Runs a command until it succeeds, at first every two seconds, then ever more seldom, up to once in a minute.
until_done() {
    local what=$1 pause=2 end=$((SECONDS + wait))
    shift
    until "$@"; do
        ((SECONDS + pause < end)) || die "$what: given up after $wait s"
        say "$what: not yet, tried again in $pause s"
        sleep "$pause"
        pause=$((pause * 2 < 60 ? pause * 2 : 60))
    done
}

engine() { curl --silent --fail --max-time 120 --unix-socket "$socket" "$@"; }

engine_answers() { engine --output /dev/null http://docker/_ping; }

in_swarm() {
    engine http://docker/info | python3 -c 'import json, sys; sys.exit(json.load(sys.stdin)["Swarm"]["LocalNodeState"] != "active")'
}

# What the metadata service calls this machine, into `instance`.
ask_instance() {
    local metadata=http://169.254.169.254/latest session
    session=$(curl --silent --fail --max-time 5 --request PUT --header 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/api/token") &&
        instance=$(curl --silent --fail --max-time 5 --header @<(printf 'X-aws-ec2-metadata-token: %s' "$session") "$metadata/meta-data/instance-id")
}

# Puts the label among those that the file has. Prints "changed" when it was another or none.
label_engine() {
    python3 - "$daemon" "runbookd.instance=$1" <<'END'
import json, os, sys

path, label = sys.argv[1:]
try:
    with open(path) as file:
        config = json.loads(file.read().strip() or "{}")
except FileNotFoundError:
    config = {}
old = config.get("labels", [])
new = [other for other in old if not other.startswith("runbookd.instance=")] + [label]
if label not in old or len(old) != len(new):
    config["labels"] = new
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w") as file:
        json.dump(config, file, indent=2)
    os.replace(path + ".new", path)
    print("changed")
END
}

restart_engine() { if command -v systemctl >/dev/null; then systemctl restart docker; else service docker restart; fi; }

# Asks runbookd and joins by what it answers, which goes through pipes only.
join() {
    local how
    how=$(curl --silent --show-error --fail --max-time 30 --header @<(printf 'Authorization: Bearer %s' "$token") "$url/api/v1/nodes/join?role=$role" |
        python3 -c '
import json, sys
text = sys.stdin.read() or sys.exit(1)
told = json.loads(text)
json.dump({"ListenAddr": "0.0.0.0:2377", "RemoteAddrs": told["managers"], "JoinToken": told["token"]}, sys.stdout)') || return 1
    # Behind a failure the machine may be in the Swarm all the same: joining goes on when whoever asked is gone.
    printf '%s' "$how" |
        engine --show-error --output /dev/null --header 'Content-Type: application/json' --data-binary @- http://docker/swarm/join || in_swarm
}

[[ $url =~ ^https?:// ]] || die "set RUNBOOKD_URL to runbookd's address, as in https://runbookd.example.com"
url=${url%/}
[[ $role == worker || $role == manager ]] || die "RUNBOOKD_ROLE is \"$role\"; expected worker or manager"
if [[ -n ${RUNBOOKD_JOIN_TOKEN_FILE:-} ]]; then
    token=$(cat -- "$RUNBOOKD_JOIN_TOKEN_FILE") || die "RUNBOOKD_JOIN_TOKEN_FILE cannot be read"
else
    token=${RUNBOOKD_JOIN_TOKEN:-}
fi
# Not for what is started from here.
unset RUNBOOKD_JOIN_TOKEN
[[ -n $token ]] || die "set RUNBOOKD_JOIN_TOKEN_FILE to a file with the token of join.token_file"

until_done "Docker" engine_answers
if in_swarm; then
    say "this machine is in a Swarm already"
    exit 0
fi
instance=${RUNBOOKD_INSTANCE:-}
[[ -n $instance ]] || until_done "the instance's id, of AWS" ask_instance
[[ $instance =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] || die "the instance's id has other characters than letters, digits, dots, dashes and underscores"
label=$(label_engine "$instance") || die "$daemon cannot be given the label runbookd.instance=$instance; it must be JSON, if it is there"
if [[ $label == changed ]]; then
    say "Docker gets the label runbookd.instance=$instance"
    restart_engine
    until_done "Docker" engine_answers
fi
until_done "joining" join
say "joined as $role"
