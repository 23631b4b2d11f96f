#!/usr/bin/env bash
# Cancels a transfer by a command on Kafka, and prints what it moves: cancel.sh QUEUE REASON [ID]
# Needs kcat (Debian's package kcat). QUEUE is an xfer queue's name. Goes on until Ctrl-C.
set -euo pipefail

servers=${XFERQ_BOOTSTRAP_SERVERS:-127.0.0.1:9092}
queue=$1
reason=$2
id=${3:-cancel-$(cat /proc/sys/kernel/random/uuid)}

json() {
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

# By the broker's clock, and well before: nothing that comes of the command is missed, and no old record is read.
since=$(($(date +%s) - 300))000

# With an id of its own a command may be sent again after a failure: twice with the same id is one cancel. By the key
# with murmur2, as Java's clients do it, all commands of a queue come to one partition, in their order.
printf '{"type": "xfer.cancel", "queue_name": %s, "reason": %s, "id": "%s"}' \
  "$(json "$queue")" "$(json "$reason")" "$id" |
  kcat -P -b "$servers" -t "${XFERQ_COMMANDS_TOPIC:-xferq.commands}" -k "$queue" \
    -X enable.idempotence=true -X topic.partitioner=murmur2_random

# The log is written in the transactions that move the messages. One that was aborted leaves records of moves that never
# were; only a reader of what is committed does not see them. Prints each message's id and its record.
kcat -C -u -q -b "$servers" -t "${XFERQ_LOG_TOPIC:-delivery-log}" -o "s@$since" -X isolation.level=read_committed \
  -f '%k %s\t%h\n' |
  grep -F --line-buffered ",command_id=$id," | sed -u 's/\t[^\t]*$//'
