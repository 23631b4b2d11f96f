#!/usr/bin/env bash
# Cancels a transfer by a command on Kafka, and follows the delivery log: cancel.sh QUEUE REASON
# Needs kcat (Debian's package kcat). QUEUE is an xfer queue's name. Goes on until Ctrl-C.
set -euo pipefail

servers=${XFERQ_BOOTSTRAP_SERVERS:-127.0.0.1:9092}
queue=$1
reason=$2

json() {
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

# With an id of its own a command may be sent again after a failure: twice with the same id is one cancel. By the key
# with murmur2, as Java's clients do it, all commands of a queue come to one partition, in their order.
printf '{"type": "xfer.cancel", "queue_name": %s, "reason": %s, "id": "cancel-%s"}' \
  "$(json "$queue")" "$(json "$reason")" "$(cat /proc/sys/kernel/random/uuid)" |
  kcat -P -b "$servers" -t "${XFERQ_COMMANDS_TOPIC:-xferq.commands}" -k "$queue" \
    -X enable.idempotence=true -X topic.partitioner=murmur2_random

# The log is written in the transactions that move the messages. One that was aborted leaves records of moves that never
# were; only a reader of what is committed does not see them. Prints each message's id and its record.
kcat -u -q -b "$servers" -X isolation.level=read_committed -X auto.offset.reset=earliest -f '%k %s\n' \
  -G example-cancel "${XFERQ_LOG_TOPIC:-delivery-log}" |
  grep -F --line-buffered "Rebound from $queue to "
