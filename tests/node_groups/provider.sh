# A provider of machines as small as can be: provider.sh STATE describe|resize|terminate GROUP [ARGUMENT].
# STATE is one line: how many are desired, how many were ever made, and the machines. What there is no group or machine of is an error.
set -eu
state=$1 call=$2 group=$3
[ "$group" = workers ] || { echo "no group $group" >&2; exit 1; }
read -r desired made machines <"$state"

case $call in
describe)
    comma=
    printf '{"desired": %s, "instances": [' "$desired"
    for machine in $machines; do
        printf '%s{"id": "%s", "node": "node-%s", "state": "in_service"}' "$comma" "$machine" "$machine"
        comma=', '
    done
    echo ']}'
    exit
    ;;
resize)
    # Told a smaller number it ends the oldest, as providers do.
    while [ "$desired" -gt "$4" ]; do
        machines=${machines#* }
        desired=$((desired - 1))
    done
    while [ "$desired" -lt "$4" ]; do
        desired=$((desired + 1))
        made=$((made + 1))
        machines="$machines m-$made"
    done
    ;;
terminate)
    kept=
    for machine in $machines; do
        [ "$machine" = "$4" ] || kept="$kept $machine"
    done
    [ " $machines" != "$kept" ] || { echo "no machine $4" >&2; exit 1; }
    machines=${kept# }
    desired=$((desired - 1))
    ;;
esac
echo "$desired $made $machines" >"$state.new"
mv "$state.new" "$state"
