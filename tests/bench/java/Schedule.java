import com.fasterxml.jackson.databind.JsonNode;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.ZoneId;
import java.time.ZoneOffset;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/** When a message may be sent: streams/domain/schedule.py. */
record Schedule(Set<Integer> days, ZoneId zone, LocalTime start, LocalTime end, Instant firstAttempt) {
    private static final List<String> DAYS =
            List.of("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday");
    private static final Set<String> FIELDS =
            Set.of("dow", "tz", "start", "end", "first_attempt", "expires");
    private static final int DAYS_TRIED = 15;

    static Schedule parse(JsonNode value) {
        if (!value.isObject()) {
            throw new NotRestorable("a schedule must be an object");
        }
        value.properties().forEach(field -> {
            if (!FIELDS.contains(field.getKey()) || !field.getValue().isTextual()) {
                throw new NotRestorable("a schedule has an unknown field");
            }
        });
        Instant first = moment(value, "first_attempt");
        moment(value, "expires");
        int restricting = 0;
        for (String field : List.of("dow", "tz", "start", "end")) {
            restricting += value.has(field) ? 1 : 0;
        }
        if (restricting == 0) {
            return new Schedule(null, null, null, null, first);
        }
        if (restricting < 4) {
            throw new NotRestorable("a schedule restricts days and hours only in part");
        }
        LocalTime start = time(value, "start");
        LocalTime end = time(value, "end");
        if (start.isAfter(end)) {
            throw new NotRestorable("start of a schedule must not be after its end");
        }
        return new Schedule(
                days(value.get("dow").textValue()), ZoneId.of(value.get("tz").textValue()), start, end, first);
    }

    /** The first moment that it permits, from `now` on. */
    Instant adjust(Instant now) {
        Instant moment = firstAttempt != null && now.isBefore(firstAttempt) ? firstAttempt : now;
        if (days == null) {
            return moment;
        }
        LocalDate today = moment.atZone(zone).toLocalDate();
        for (int ahead = 0; ahead < DAYS_TRIED; ahead++) {
            LocalDate day = today.plusDays(ahead);
            if (!days.contains(day.getDayOfWeek().getValue() - 1)) {
                continue;
            }
            Instant from = on(day, start);
            Instant to = on(day, end);
            if (from == null || to == null) {
                continue;
            }
            if (moment.isBefore(from)) {
                return from;
            }
            if (moment.isBefore(to)) {
                return moment;
            }
        }
        throw new NotRestorable("a schedule permits no time");
    }

    private Instant on(LocalDate day, LocalTime at) {
        LocalDateTime local = LocalDateTime.of(day, at.withNano(0));
        List<ZoneOffset> offsets = zone.getRules().getValidOffsets(local);
        return offsets.size() == 1 ? local.toInstant(offsets.get(0)) : null;
    }

    private static Set<Integer> days(String text) {
        Set<Integer> found = new HashSet<>();
        for (String day : text.split(",", -1)) {
            String name = day.toLowerCase(Locale.ROOT);
            int number = 0;
            while (number < 7 && !DAYS.get(number).equals(name) && !DAYS.get(number).substring(0, 3).equals(name)) {
                number++;
            }
            if (number == 7) {
                throw new NotRestorable("dow of a schedule has an unknown day");
            }
            found.add(number);
        }
        return found;
    }

    private static LocalTime time(JsonNode value, String field) {
        String[] parts = value.get(field).textValue().split(":");
        return LocalTime.parse(
                (parts[0].length() == 1 ? "0" + parts[0] : parts[0])
                        + ":" + (parts[1].length() == 1 ? "0" + parts[1] : parts[1])
                        + (parts.length > 2 ? ":" + parts[2] : ""));
    }

    private static Instant moment(JsonNode value, String field) {
        return value.has(field) ? Moment.parse(value.get(field).textValue()).instant() : null;
    }
}
