/** A message that has no way back. None of what the benchmark fills in is one, so it ends the run. */
final class NotRestorable extends RuntimeException {
    NotRestorable(String why) {
        super(why);
    }
}
