"""The delivery log, sorted: which AdminRebind record is about which move of which message."""

import json
from collections import Counter
from collections.abc import Mapping

from api.demo.corpus import Mail
from api.demo.evidence import Evidence
from streams.kafka.contents import StoredRecord

Counts = Counter[bytes]


class Logbook:
    """How many right records there are of each message's transfer and cancel, and what is wrong with the others."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        mails = {mail.id: mail for mail in evidence.mails}
        self.transfers: Counts = Counter()
        self.cancels: Counts = Counter()
        self.problems: list[str] = []
        for record in evidence.log:
            self._sort(record, mails)

    def _sort(self, record: StoredRecord, mails: Mapping[bytes, Mail]) -> None:
        evidence = self._evidence
        where = f"log record {record.partition}@{record.offset}"
        mail = mails.get(record.key or b"")
        if mail is None:
            self.problems.append(f"{where}: there is no message {record.key!r}")
            return
        try:
            line = json.loads(record.value or b"")
        except ValueError:
            self.problems.append(f"{where}: not JSON")
            return
        # The words of KumoMTA: where it was, where it is, and the operator's reason.
        xfer, own = evidence.xfer_queue, mail.queue
        moves = {
            (xfer, f"Rebound from {own} to {xfer}: {evidence.transfer.reason}"): self.transfers,
            (own, f"Rebound from {xfer} to {own}: {evidence.cancel.reason}"): self.cancels,
        }
        response = line.get("response")
        content = response.get("content") if isinstance(response, dict) else None
        counts = moves.get((str(line.get("queue")), str(content)))
        if counts is None:
            self.problems.append(f"{where}: about no move of {mail.queue}: to {line.get('queue')!r}, {content!r}")
            return
        problem = _problem(line, record, mail)
        if problem is not None:
            self.problems.append(f"{where}: {problem}")
            return
        counts[mail.id] += 1


def _problem(line: Mapping[str, object], record: StoredRecord, mail: Mail) -> str | None:
    response = line["response"]
    recipient = mail.envelope["recipient"]
    expected = {
        "type": "AdminRebind",
        "id": mail.id.decode(),
        "sender": mail.envelope["sender"],
        "recipient": recipient[0] if isinstance(recipient, list) and len(recipient) == 1 else recipient,
        "site": "",
        "size": len(mail.value),
        "num_attempts": mail.envelope["num_attempts"],
        "response": {**(response if isinstance(response, dict) else {}), "code": 250},
    }
    for name, value in expected.items():
        if line.get(name) != value:
            return f"its {name} is {line.get(name)!r}, not {value!r}"
    if ("type", b"AdminRebind") not in record.headers:
        return "it lacks the header type"
    return None
