# Runs the shared test server and stops it when no test process has been alive for a while.
#
#   sh watchdog.sh <directory> <users> <idle seconds> <postgres> <arguments ...>
#
# <users> is a directory with one file per test process, named by its pid. <directory>/ready exists
# while the server may be used. A test process registers first and looks for `ready` second;
# this script takes `ready` away first and looks for users second: so one of them always notices.

directory=$1
users=$2
limit=$3
shift 3

"$@" >>"$directory/log" 2>&1 &
server=$!
echo "$server" >"$directory/pid"

# `kill -0` also fails for a process of another user, which /proc tells apart where it exists.
in_use() {
  for user in "$users"/*; do
    pid=${user##*/}
    if kill -0 "$pid" 2>/dev/null || [ -d "/proc/$pid" ]; then
      return 0
    fi
  done
  return 1
}

idle=0
while kill -0 "$server" 2>/dev/null; do
  sleep 1
  if in_use; then
    idle=0
    continue
  fi
  idle=$((idle + 1))
  [ "$idle" -ge "$limit" ] || continue
  mv "$directory/ready" "$directory/stopping" 2>/dev/null
  if in_use; then
    mv "$directory/stopping" "$directory/ready" 2>/dev/null
    idle=0
    continue
  fi
  kill -INT "$server"
  wait "$server"
  rm -rf "$directory/data" "$directory/run" "$directory/stopping"
  exit 0
done
# It ended by itself: what it left stays for whoever wants to know why, or starts it again.
rm -f "$directory/ready"
wait "$server"
