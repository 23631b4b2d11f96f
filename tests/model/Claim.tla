------------------------------- MODULE Claim -------------------------------
(*
The claim of streams/claim/claimer.py, checked by TLC: tests/model/test_model.py runs it, with the *.cfg files here.

What is what. The queue has one partition; its log is `end`, its group's committed offset `committed`. The ledger is a
log in which records stay undecided until their transaction's marker comes, each partition's in its own time; offsets
of a transaction are pending at the group's coordinator until its marker comes there, and lose against a plain commit
that came behind them. Claimers are workers that have a command: pc "idle" is a worker without one, Take steps 1 to 3,
"evict" step 4, "snapshot" 5, "commit" 6, "look" and "put" 7, "done" 8. A worker may stop at each step: for ever
(Crash), or for as long as others need to do all of it (a zombie: it just does not take its turn). The guard of heads
is the command "guard". One broker may be cut off from the controller (Cut): another one leads the ledger from then
on, and takes all that is written to it; the first one does not know it, and whoever asks it reads `zombie`, the log
of that moment, to its end; and where it was the group's coordinator, the offset of that moment. A claimer may ask either
of them. Dispatchers believe what they believe (`at`, `pos`) until they Learn better; the coordinator knows `members` and who has the partition, `assigned`. `seats` are the
claims' holds.

Assumed. Whoever joins a group without members gets a partition later than a claimer needs for one eviction and the
look behind it (LookAgain is one step): Kafka's group.initial.rebalance.delay.ms is 3 s unless somebody sets it to 0.
What acknowledges a claim's offsets (6) is the group's coordinator: Kafka answers once all in-sync replicas have them. So
are those that evict (4 and 7), and that are asked in 7: a broker that was cut off between 6 and 7 is left out.

Left out. Step 3, as messages arrive decided. Draining and the freeing of space, which only take claimed messages away
(so a redelivered command looks again here in any case). Several partitions, which share nothing but transactions.
The group protocol: a dispatcher joins, and gets the partition if nobody has it and no seat is taken.

The bound, stated by NoneDispatchedAfterwards. Once a claim has ended, a claimed message is only dispatched by
- a dispatcher that was evicted and does not know it yet (it is not in `members`);
- one that got its partition while the offset was `displaced`: put below the claim by a late commit of an evicted one,
  or gone, and not yet put back by the guard (`excused`). Nothing can keep Kafka from taking such a commit.
Before that, until step 7 has evicted it, also by one that joined while the group was without members.

Weakened. Each of the flags in the last lines of CONSTANTS is TRUE for what the code does. FALSE leaves it out, and
TLC then shows how something goes wrong.
*)
EXTENDS Integers, Sequences, FiniteSets, TLC

CONSTANTS
    Claimers, Commands, Dispatchers, \* sets of model values
    Messages,                        \* offsets 0 .. Messages - 1 will be written to the queue
    None,
    Unlimited,
    Crashes, Redeliveries, Joins, Leaves, LateCommits, Expiries, LostSeats, Drains, Fences, Cuts,
                                     \* how often, or Unlimited
    Fencing, Evicting, HoldingAtTheCommit, LookingAgain, AwaitingTheMarker, AwaitingThePut, HoldingAtThePut,
    ResumingAtTheLook, ReadingToTheEnd, ProvingByAWrite, AskingWhoTookThem

VARIABLES
    end,        \* the queue: messages 0 .. end - 1 have arrived
    ledger,     \* the ledger: a sequence of records [by, k, lo, hi, st]; st: "open", "sure" (no marker yet), "yes"
    committed,  \* the group's committed offset; -1: none
    pending,    \* by claimer: its transaction's offset at the group's coordinator [off, beaten, sure], or None
    owner,      \* who has the transactional id
    pc, cmd, lo, hi, known, base, \* the claimers; known: the head of the ledger; base: the offset that was read
    members, assigned, seats, \* the group, as its coordinator sees it
    at, pos, late, excused,   \* the dispatchers, as they see themselves
    displaced,  \* the offset lies below the heads because it has expired, or was committed by somebody evicted
    acked, sent,
    done,       \* what was committed by a dispatcher and not claimed before
    left,       \* what is left of the budget
    zombie      \* what the broker that was cut off tells [log, told], or None; told is -2 where an offset was pending

claimers == <<pc, cmd, lo, hi, known, base, base>>
group == <<members, assigned, seats>>
dispatchers == <<at, pos, late, excused>>
vars == <<end, ledger, committed, pending, owner, claimers, group, dispatchers, displaced, acked, sent, done, left,
          zombie>>

Guard == "guard"
Drain == "drain"
Max(a, b) == IF a > b THEN a ELSE b
Highest(set) == CHOOSE x \in set : \A y \in set : y <= x
Records == {ledger[i] : i \in 1 .. Len(ledger)}
Claims == {r \in Records : r.by # Drain /\ r.st # "open"}
HeadOf(records) == Highest({0} \cup {r.hi : r \in records})
TheHead == HeadOf(Claims)
IsClaimed(o) == \E r \in Claims : r.lo <= o /\ o < r.hi
Spend(what) == left[what] # 0 /\ left' = [left EXCEPT ![what] = IF @ = Unlimited THEN Unlimited ELSE @ - 1]
Beaten == [c \in Claimers |-> IF pending[c] = None THEN None ELSE [pending[c] EXCEPT !.beaten = TRUE]]

Init ==
    /\ end = 0 /\ ledger = <<>> /\ committed = -1 /\ pending = [c \in Claimers |-> None] /\ owner = None
    /\ pc = [c \in Claimers |-> "idle"] /\ cmd = [c \in Claimers |-> None]
    /\ lo = [c \in Claimers |-> 0] /\ hi = [c \in Claimers |-> 0] /\ known = [c \in Claimers |-> 0]
    /\ base = [c \in Claimers |-> -1]
    /\ members = {} /\ assigned = None /\ seats = {}
    /\ at = [d \in Dispatchers |-> "out"] /\ pos = [d \in Dispatchers |-> 0]
    /\ late = [d \in Dispatchers |-> -1] /\ excused = [d \in Dispatchers |-> FALSE]
    /\ displaced = FALSE /\ acked = {} /\ sent = {} /\ done = {}
    /\ left = [crashes |-> Crashes, redeliveries |-> Redeliveries, joins |-> Joins, leaves |-> Leaves,
               lateCommits |-> LateCommits, expiries |-> Expiries, lostSeats |-> LostSeats, drains |-> Drains,
               fences |-> Fences, cuts |-> Cuts]
    /\ zombie = None

(* ---- The queue, and those who dispatch from it *)

Arrive ==
    /\ end < Messages /\ end' = end + 1
    /\ UNCHANGED <<ledger, committed, pending, owner, claimers, group, dispatchers, displaced, acked, sent, done, left>>

Join(d) ==
    /\ at[d] = "out" /\ Spend("joins")
    /\ at' = [at EXCEPT ![d] = "member"] /\ members' = members \cup {d}
    /\ UNCHANGED <<end, ledger, committed, pending, owner, claimers, assigned, seats, pos, late, excused, displaced,
                   acked, sent, done>>

\* It gets the partition and reads the offset to go on from; many clients don't wait for pending transactions.
Get(d) ==
    /\ at[d] = "member" /\ d \in members /\ seats = {} /\ assigned = None
    /\ assigned' = d
    /\ at' = [at EXCEPT ![d] = "works"]
    /\ pos' = [pos EXCEPT ![d] = Max(committed, 0)]
    /\ excused' = [excused EXCEPT ![d] = displaced /\ committed < TheHead]
    /\ UNCHANGED <<end, ledger, committed, pending, owner, claimers, members, seats, late, displaced, acked, sent, done, left>>

Dispatch(d) ==
    /\ at[d] = "works" /\ pos[d] < end
    /\ sent' = sent \cup {pos[d]}
    /\ pos' = [pos EXCEPT ![d] = @ + 1]
    /\ UNCHANGED <<end, ledger, committed, pending, owner, claimers, group, at, late, excused, displaced, acked, done,
                   left>>

\* A plain commit behind a pending one of a transaction wins over it when the transaction's marker comes.
Commit(d) ==
    /\ at[d] = "works" /\ d \in members /\ committed # pos[d]
    /\ committed' = pos[d] /\ pending' = Beaten
    /\ displaced' = (displaced \/ (excused[d] /\ pos[d] < TheHead))
    /\ done' = done \cup {o \in 0 .. pos[d] - 1 : ~IsClaimed(o)}
    /\ UNCHANGED <<end, ledger, owner, claimers, group, dispatchers, acked, sent, left>>

Forget(d) == at' = [at EXCEPT ![d] = "out"] /\ pos' = [pos EXCEPT ![d] = 0] /\ excused' = [excused EXCEPT ![d] = FALSE]

\* That it was evicted: from a heartbeat, or from a commit that is turned down.
Learn(d) ==
    /\ at[d] # "out" /\ d \notin members
    /\ Forget(d) /\ late' = [late EXCEPT ![d] = IF at[d] = "works" /\ left.lateCommits # 0 THEN pos[d] ELSE -1]
    /\ UNCHANGED <<end, ledger, committed, pending, owner, claimers, group, displaced, acked, sent, done, left>>

Leave(d) ==
    /\ at[d] = "works" /\ d \in members /\ Spend("leaves")
    /\ members' = members \ {d} /\ assigned' = None
    /\ Forget(d)
    /\ UNCHANGED <<end, ledger, committed, pending, owner, claimers, seats, late, displaced, acked, sent, done>>

\* What it had polled before its eviction: without membership into an empty group, or as a member again.
CommitLate(d) ==
    /\ late[d] >= 0 /\ (members \cup seats = {} \/ assigned = d) /\ Spend("lateCommits")
    /\ committed' = late[d] /\ pending' = Beaten /\ displaced' = (displaced \/ late[d] < TheHead)
    /\ late' = [late EXCEPT ![d] = -1] /\ done' = {o \in done : o < late[d]}
    /\ UNCHANGED <<end, ledger, owner, claimers, group, at, pos, excused, acked, sent>>

Expire ==
    /\ members \cup seats = {} /\ committed >= 0 /\ (\A c \in Claimers : pending[c] = None) /\ Spend("expiries")
    /\ committed' = -1 /\ displaced' = (displaced \/ TheHead > 0) /\ done' = {}
    /\ UNCHANGED <<end, ledger, pending, owner, claimers, group, dispatchers, acked, sent>>

(* ---- Kafka *)

\* A transaction is decided at once; each partition learns it by a marker of its own, later.
MarkLedger ==
    /\ \E i \in 1 .. Len(ledger) : ledger[i].st = "sure" /\ ledger' = [ledger EXCEPT ![i].st = "yes"]
    /\ UNCHANGED <<end, committed, pending, owner, claimers, group, dispatchers, displaced, acked, sent, done, left>>

MarkGroup(c) ==
    /\ pending[c] # None /\ pending[c].sure
    /\ pending' = [pending EXCEPT ![c] = None]
    /\ committed' = IF pending[c].beaten THEN committed ELSE pending[c].off
    /\ displaced' = (displaced /\ (pending[c].beaten \/ pending[c].off < TheHead))
    /\ UNCHANGED <<end, ledger, owner, claimers, group, dispatchers, acked, sent, done, left>>

\* The transaction of another queue's drain, in the same partition of the ledger.
DrainBegins ==
    /\ Spend("drains")
    /\ ledger' = Append(ledger, [by |-> Drain, k |-> None, lo |-> 0, hi |-> 0, st |-> "open"])
    /\ UNCHANGED <<end, committed, pending, owner, claimers, group, dispatchers, displaced, acked, sent, done>>

DrainEnds ==
    /\ \E r \in Records : r.by = Drain
    /\ ledger' = SelectSeq(ledger, LAMBDA r : r.by # Drain)
    /\ UNCHANGED <<end, committed, pending, owner, claimers, group, dispatchers, displaced, acked, sent, done, left>>

Unmarked(who) ==
    \/ \E r \in Records : r.by \in who /\ r.st = "sure"
    \/ \E c \in who : pending[c] # None /\ pending[c].sure

Abort(who) ==
    /\ ledger' = SelectSeq(ledger, LAMBDA r : ~(r.by \in who /\ r.st = "open"))
    /\ pending' = [c \in Claimers |-> IF c \in who /\ pending[c] # None /\ ~pending[c].sure THEN None ELSE pending[c]]

\* A transaction that a crash has left open is aborted after a while.
TimeOut ==
    /\ \E c \in Claimers : /\ pending[c] # None \/ \E r \in Records : r.by = c
                           /\ Abort({c}) /\ <<ledger, pending>>' # <<ledger, pending>>
    /\ owner' = None
    /\ UNCHANGED <<end, committed, claimers, group, dispatchers, displaced, acked, sent, done, left>>

SeatLost(c) ==
    /\ c \in seats
    /\ IF pc[c] = "idle" THEN UNCHANGED left ELSE Spend("lostSeats")
    /\ seats' = seats \ {c}
    /\ UNCHANGED <<end, ledger, committed, pending, owner, claimers, members, assigned, dispatchers, displaced, acked,
                   sent, done>>

(* ---- The claimers: streams/claim/claimer.py *)

IsOwner(c) == ~Fencing \/ owner = c
IsStable == \A c \in Claimers : pending[c] = None
Quiet == UNCHANGED <<end, dispatchers, sent, done>>
Goto(c, label) == pc' = [pc EXCEPT ![c] = label]

\* The attempt is over: done, fenced, crashed.
Over(c) ==
    /\ Goto(c, "idle") /\ cmd' = [cmd EXCEPT ![c] = None]
    /\ lo' = [lo EXCEPT ![c] = 0] /\ hi' = [hi EXCEPT ![c] = 0]
    /\ known' = [known EXCEPT ![c] = 0] /\ base' = [base EXCEPT ![c] = -1]
    /\ owner' = IF owner = c THEN None ELSE owner

VisibleIn(log) ==
    LET undecided == {i \in 1 .. Len(log) : log[i].st # "yes"}
        stable == IF undecided = {} THEN Len(log) ELSE -Highest({-i : i \in undecided}) - 1
    IN  {log[i] : i \in 1 .. stable}
Visible == VisibleIn(ledger)

\* The logs that may be read, each to its end; and those in which a mark stands that is acknowledged now. The zombie
\* may have taken one, but nobody is delivered it: its followers don't follow it any more.
Readable == IF zombie = None THEN {ledger} ELSE {ledger, zombie.log}
Marked == {ledger}
\* What a claimer may be told of the group's offset.
Told == {committed} \cup (IF zombie = None THEN {} ELSE {zombie.told} \ {-2})

\* 1 and 2, and a first look at what there is to be claimed. InitProducerId answers when the transaction before is
\* over and its markers are written.
StartFrom(c, k, log, told) ==
    LET visible == VisibleIn(log)
        mine == {r \in visible : r.k = k}
        head == Max(told, HeadOf(visible))
        next == IF k = Guard THEN "evict"
                ELSE IF mine # {} THEN IF ResumingAtTheLook /\ \E r \in mine : r.lo < r.hi THEN "look" ELSE "done"
                ELSE IF head < end THEN "evict" ELSE "commit"
        empty == IF next = "commit" THEN head ELSE 0
        others == IF Fencing THEN Claimers ELSE {c}
    IN  /\ pc[c] = "idle"
        /\ ~Unmarked(others)
        /\ ReadingToTheEnd => \A i \in 1 .. Len(log) : log[i].st = "yes" \/ (log = ledger /\ log[i].by \in others)
        /\ ProvingByAWrite => log \in Marked
        /\ Abort(others)
        /\ owner' = c
        /\ cmd' = [cmd EXCEPT ![c] = k] /\ known' = [known EXCEPT ![c] = HeadOf(visible)]
        /\ lo' = [lo EXCEPT ![c] = empty] /\ hi' = [hi EXCEPT ![c] = empty]
        /\ Goto(c, next)
        /\ Quiet /\ UNCHANGED <<base, committed, group, displaced, acked>>
Start(c, k) == \E log \in Readable, told \in Told : StartFrom(c, k, log, told)

\* A command comes to anybody, to both at once, and again until it is acknowledged; and even after that.
Take(c, k) ==
    /\ Start(c, k)
    /\ IF k \in acked THEN Spend("redeliveries")
       ELSE IF owner # None THEN Spend("fences") ELSE UNCHANGED left

\* streams/worker/head_guard.py: the committed offset lies below a claim.
Look(c) ==
    /\ IsStable /\ committed < HeadOf(Visible) /\ HeadOf(Visible) > 0
    /\ Start(c, Guard)
    /\ IF owner # None THEN Spend("fences") ELSE UNCHANGED left

\* 4. Hold and evict. A group without members is not joined.
EvictOthers(c) ==
    IF Evicting /\ members \cup (seats \ {c}) # {}
    THEN members' = {} /\ assigned' = None /\ seats' = {c}
    ELSE UNCHANGED group

Evict(c) ==
    /\ pc[c] = "evict" /\ EvictOthers(c)
    /\ Goto(c, IF cmd[c] = Guard THEN "look" ELSE "snapshot")
    /\ Quiet /\ UNCHANGED <<ledger, committed, pending, owner, cmd, lo, hi, known, base, displaced, acked, left>>

\* 5.
Snapshot(c) ==
    /\ pc[c] = "snapshot" /\ IsStable
    /\ \E told \in Told : /\ lo' = [lo EXCEPT ![c] = Max(told, known[c])]
                         /\ hi' = [hi EXCEPT ![c] = Max(Max(told, known[c]), end)]
                         /\ base' = [base EXCEPT ![c] = told]
    /\ known' = [known EXCEPT ![c] = 0]
    /\ Goto(c, "commit")
    /\ Quiet /\ UNCHANGED <<ledger, committed, pending, owner, cmd, group, displaced, acked, left>>

\* 6. Or a crash in the middle of it.
Record(c, st) == [by |-> c, k |-> cmd[c], lo |-> lo[c], hi |-> hi[c], st |-> st]
Offset(c, off, sure) == pending' = [pending EXCEPT ![c] = [off |-> off, beaten |-> FALSE, sure |-> sure]]
IsAsRead(c) ==
    (IF pc[c] = "put" THEN HoldingAtThePut ELSE HoldingAtTheCommit /\ lo[c] < hi[c])
        => IF AskingWhoTookThem THEN committed = base[c] ELSE base[c] \in Told
Write(c) ==
    /\ pc[c] = "commit" /\ ~Unmarked({c})
    /\ \/ /\ IsOwner(c) /\ IsAsRead(c)
          /\ ledger' = Append(ledger, Record(c, "sure"))
          /\ IF lo[c] < hi[c] THEN Offset(c, hi[c], TRUE) ELSE UNCHANGED pending
          /\ Goto(c, IF lo[c] < hi[c] THEN "look" ELSE "done")
          /\ known' = [known EXCEPT ![c] = hi[c]] /\ lo' = [lo EXCEPT ![c] = 0] /\ hi' = [hi EXCEPT ![c] = 0]
          /\ base' = [base EXCEPT ![c] = -1]
          /\ UNCHANGED <<owner, cmd, left>>
       \/ /\ IsOwner(c) /\ Spend("crashes")
          /\ ledger' = Append(ledger, Record(c, "open"))
          /\ IF lo[c] < hi[c] THEN Offset(c, hi[c], FALSE) ELSE UNCHANGED pending
          /\ Over(c)
       \/ ~(IsOwner(c) /\ IsAsRead(c)) /\ Over(c) /\ UNCHANGED <<ledger, pending, left>>
    /\ Quiet /\ UNCHANGED <<committed, group, displaced, acked>>

IsRight(c) ==
    /\ Goto(c, IF committed < known[c] THEN "put" ELSE "done")
    /\ base' = [base EXCEPT ![c] = IF committed < known[c] THEN committed ELSE -1]

\* 7. Look again: wait for all that is pending, evict whoever has come meanwhile, and see that the offset is right.
\* The last two are one step: nobody gets a partition in between. There is a seat, or else newcomers to a group
\* without members wait for others to come, longer than the claimer lets this last.
LookAgain(c) ==
    /\ pc[c] = "look"
    /\ IF ~LookingAgain THEN Goto(c, "done") /\ UNCHANGED <<group, base>>
       ELSE IF ~AwaitingTheMarker THEN Goto(c, "evict hastily") /\ UNCHANGED <<group, base>>
       ELSE IsStable /\ EvictOthers(c) /\ IsRight(c)
    /\ Quiet /\ UNCHANGED <<ledger, committed, pending, owner, cmd, lo, hi, known, displaced, acked, left>>

\* Put it back where it lies below a claim, by a transaction without records; then look again.
Put(c) ==
    /\ pc[c] = "put"
    /\ \/ /\ IsOwner(c) /\ ~Unmarked({c}) /\ IsAsRead(c)
          /\ Offset(c, known[c], TRUE) /\ base' = [base EXCEPT ![c] = -1]
          /\ Goto(c, IF AwaitingThePut THEN "look" ELSE "evict hastily")
          /\ UNCHANGED <<owner, cmd, lo, hi, known>>
       \/ ~(IsOwner(c) /\ IsAsRead(c)) /\ Over(c) /\ UNCHANGED pending
    /\ Quiet /\ UNCHANGED <<ledger, committed, group, displaced, acked, left>>

\* Weakened: evict first, then wait for the marker.
EvictHastily(c) ==
    /\ pc[c] = "evict hastily" /\ EvictOthers(c) /\ Goto(c, "check")
    /\ Quiet /\ UNCHANGED <<ledger, committed, pending, owner, cmd, lo, hi, known, base, displaced, acked, left>>

Check(c) ==
    /\ pc[c] = "check" /\ IsStable /\ IsRight(c)
    /\ Quiet /\ UNCHANGED <<ledger, committed, pending, owner, cmd, lo, hi, known, group, displaced, acked, left>>

\* 8.
Acknowledge(c) ==
    /\ pc[c] = "done" /\ Over(c)
    /\ acked' = acked \cup ({cmd[c]} \ {Guard})
    /\ Quiet /\ UNCHANGED <<ledger, committed, pending, group, displaced, left>>

Crash(c) ==
    /\ pc[c] # "idle" /\ Spend("crashes") /\ Over(c)
    /\ Quiet /\ UNCHANGED <<ledger, committed, pending, group, displaced, acked>>

Claiming(c) ==
    \/ Evict(c) \/ Snapshot(c) \/ Write(c) \/ LookAgain(c) \/ Put(c) \/ EvictHastily(c) \/ Check(c) \/ Acknowledge(c)

\* A broker is cut off, and another one leads.
Cut ==
    /\ zombie = None /\ Spend("cuts")
    /\ zombie' = [log |-> ledger, told |-> IF IsStable THEN committed ELSE -2]
    /\ UNCHANGED <<end, ledger, committed, pending, owner, claimers, group, dispatchers, displaced, acked, sent, done>>

Step ==
    \/ Arrive \/ Expire \/ MarkLedger \/ DrainBegins \/ DrainEnds \/ TimeOut
    \/ \E d \in Dispatchers : Join(d) \/ Get(d) \/ Dispatch(d) \/ Commit(d) \/ Learn(d) \/ Leave(d) \/ CommitLate(d)
    \/ \E c \in Claimers : MarkGroup(c) \/ SeatLost(c) \/ Look(c) \/ Claiming(c) \/ Crash(c)
    \/ \E c \in Claimers, k \in Commands : Take(c, k)

Still(action) == action /\ UNCHANGED zombie
Next == Still(Step) \/ Cut

Spec == Init /\ [][Next]_vars

\* All that is no disturbance happens in the end.
Fair ==
    /\ WF_vars(Still(MarkLedger)) /\ WF_vars(Still(DrainEnds)) /\ WF_vars(Still(TimeOut))
    /\ \A c \in Claimers :
        /\ WF_vars(Still(MarkGroup(c))) /\ WF_vars(Still(Look(c))) /\ WF_vars(Still(Claiming(c)))
        /\ WF_vars(Still(SeatLost(c)))
        /\ \A k \in Commands : WF_vars(Still(k \notin acked /\ Take(c, k)))
FairSpec == Spec /\ Fair

(* ---- What must hold *)

NoneClaimedTwice ==
    \A i, j \in 1 .. Len(ledger) :
        (i < j /\ {ledger[i], ledger[j]} \subseteq Claims) => ledger[i].hi <= ledger[j].lo \/ ledger[j].hi <= ledger[i].lo

OneClaimPerCommand ==
    \A i, j \in 1 .. Len(ledger) : (i < j /\ {ledger[i], ledger[j]} \subseteq Claims) => ledger[i].k # ledger[j].k

NoneSkipped == \A o \in 0 .. Max(TheHead, committed) - 1 : IsClaimed(o) \/ o \in sent

NoneClaimedThatWasDone == \A o \in done : ~IsClaimed(o)

NoneDispatchedAfterwards ==
    \A d \in Dispatchers : at[d] = "works" /\ d \in members /\ ~excused[d]
        => \A r \in Claims : r.k \in acked => pos[d] < r.lo \/ pos[d] >= r.hi

\* A claim always ends; and then the offset comes back above it, whoever has moved it.
ClaimsEnd == \A k \in Commands : <>(k \in acked)
HeadsComeBack == []<>(Max(committed, 0) >= TheHead)

Symmetry == Permutations(Claimers) \cup Permutations(Dispatchers) \cup Permutations(Commands)
=============================================================================
