import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.time.temporal.ChronoUnit;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Pattern;

/** A time with its text, as streams/domain/timestamp.py reads and writes it. */
record Moment(Instant instant, String text) {
    private static final Pattern RFC3339 = Pattern.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}"
            + "(?:\\.[0-9]+)?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])");
    private static final int SECONDS = 17;

    static Moment now() {
        return of(Instant.now());
    }

    /** In UTC: whole seconds, or six digits after them where they are not whole. */
    static Moment of(Instant instant) {
        Instant micros = instant.truncatedTo(ChronoUnit.MICROS);
        String text = micros.truncatedTo(ChronoUnit.SECONDS).toString();
        if (micros.getNano() != 0) {
            text = text.substring(0, text.length() - 1) + String.format(".%06dZ", micros.getNano() / 1000);
        }
        return new Moment(micros, text);
    }

    /** Reads a time strictly. */
    static Moment parse(String text) {
        if (text.length() > 64 || !RFC3339.matcher(text).matches()) {
            throw new NotRestorable("not an RFC 3339 time");
        }
        String upper = text.toUpperCase(Locale.ROOT).replace(' ', 'T');
        boolean leap = upper.startsWith("60", SECONDS);
        if (leap) {
            upper = upper.substring(0, SECONDS) + "59" + upper.substring(SECONDS + 2);
        }
        Instant instant = OffsetDateTime.parse(upper).withOffsetSameInstant(ZoneOffset.UTC).toInstant();
        return of(leap ? instant.truncatedTo(ChronoUnit.SECONDS).plusSeconds(1) : instant);
    }

    /** `parse` that remembers: most messages of a queue share their times. Not for more than one thread. */
    static final class Known {
        private static final int MOST = 16384;
        private final Map<String, Moment> known = new HashMap<>();

        Moment parse(String text) {
            Moment found = known.get(text);
            if (found == null) {
                found = Moment.parse(text);
                if (known.size() >= MOST) {
                    known.clear();
                }
                known.put(text, found);
            }
            return found;
        }
    }
}
