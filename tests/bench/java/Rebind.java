import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.util.ByteArrayBuilder;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.header.internals.RecordHeaders;

/**
 * What a cancel does to a message, as streams/drain/transform.py: its envelope as it was before the transfer, the topic of
 * its scheduled queue, its AdminRebind record. In one pass over the envelope's tokens, without a tree. One per thread.
 */
final class Rebind {
    private static final String XFER_SUFFIX = ".xfer.kumomta.internal";
    private static final int MAX_ATTEMPTS = 65535;
    private static final int MAX_NAME_BYTES = 1024;
    private static final JsonMapper MAPPER = new JsonMapper();
    private static final JsonFactory JSON = MAPPER.getFactory();

    /** A message after its move. */
    record Moved(String topic, Headers headers, byte[] log) {}

    private record Destination(String topic, String response) {}

    private static final class Info {
        final String[] parts = new String[4];
        int attempts;
        JsonNode schedule;
    }

    private static final List<String> PARTS = List.of("queue", "routing_domain", "tenant", "campaign");
    private final String xferQueue;
    private final String reason;
    private final String nodeId;
    private final Map<String, Destination> destinations = new HashMap<>();
    private final Moment.Known times = new Moment.Known();

    Rebind(String xferQueue, String reason, String nodeId) {
        this.xferQueue = xferQueue;
        this.reason = reason;
        this.nodeId = nodeId;
    }

    /** Moves one message, given its key, its headers and the size of its body. */
    Moved apply(byte[] key, Headers headers, int size, Moment now) throws IOException {
        byte[] envelope = null;
        var moved = new RecordHeaders();
        int at = -1;
        var all = new ArrayList<Header>();
        for (Header header : headers) {
            if (header.key().equals("envelope")) {
                if (at >= 0) {
                    throw new NotRestorable("there is more than one envelope");
                }
                at = all.size();
                envelope = header.value();
            }
            all.add(header);
        }
        if (envelope == null) {
            throw new NotRestorable("there is no envelope");
        }
        var message = new Message();
        all.set(at, new RecordHeader("envelope", message.restore(envelope, now)));
        all.forEach(moved::add);
        Destination destination = destination(message.queue());
        return new Moved(destination.topic, moved, message.log(key, destination, size, now));
    }

    private Destination destination(String queue) {
        Destination known = destinations.get(queue);
        if (known == null) {
            if (queue.endsWith(XFER_SUFFIX) || queue.equals(xferQueue)) {
                throw new NotRestorable("the saved queue is an xfer queue itself");
            }
            String content = "Rebound from " + xferQueue + " to " + queue + ": " + reason;
            content = content.replace("\r\n", " ").replace('\n', ' ').replace('\r', ' ');
            known = new Destination(Topics.of(queue), content);
            destinations.put(queue, known);
        }
        return known;
    }

    /** One message while it is worked on. */
    private final class Message {
        private String sender;
        private List<String> recipients;
        private boolean isList;
        private String protocol;
        private Moment created;
        private Info info;
        private String queue;

        byte[] restore(byte[] envelope, Moment now) throws IOException {
            boolean hasMeta = false;
            boolean hasAttempts = false;
            boolean hasSchedule = false;
            try (var bytes = new ByteArrayBuilder(envelope.length + 64);
                    JsonParser in = JSON.createParser(envelope);
                    JsonGenerator out = JSON.createGenerator(bytes)) {
                require(in.nextToken() == JsonToken.START_OBJECT, "the envelope is not an object");
                out.writeStartObject();
                while (in.nextToken() != JsonToken.END_OBJECT) {
                    String name = in.currentName();
                    in.nextToken();
                    switch (name) {
                        case "sender" -> {
                            sender = text(in, "sender must be a string");
                            out.writeStringField(name, sender);
                        }
                        case "recipient" -> {
                            out.writeFieldName(name);
                            recipient(in, out);
                        }
                        case "meta" -> {
                            require(in.currentToken() == JsonToken.START_OBJECT, "meta must be an object");
                            hasMeta = true;
                            out.writeFieldName(name);
                            meta(in, out);
                        }
                        case "num_attempts" -> {
                            attempts(in);
                            hasAttempts = true;
                        }
                        case "created" -> {
                            String text = text(in, "created must be an RFC 3339 time");
                            created = times.parse(text);
                            out.writeStringField(name, text);
                        }
                        case "due" -> {
                            if (in.currentToken() != JsonToken.VALUE_NULL) {
                                times.parse(text(in, "due must be an RFC 3339 time or null"));
                            }
                        }
                        case "schedule" -> {
                            hasSchedule = true;
                            require(
                                    in.currentToken() == JsonToken.VALUE_NULL
                                            || in.currentToken() == JsonToken.START_OBJECT,
                                    "schedule must be an object or null");
                            in.skipChildren();
                        }
                        default -> {
                            out.writeFieldName(name);
                            out.copyCurrentStructureExact(in);
                        }
                    }
                }
                require(sender != null && recipients != null && hasMeta && hasAttempts && created != null,
                        "a field of the envelope is missing");
                out.writeNumberField("num_attempts", info.attempts);
                if (info.schedule == null) {
                    out.writeStringField("due", now.text());
                    if (hasSchedule) {
                        out.writeNullField("schedule");
                    }
                } else {
                    out.writeStringField(
                            "due", Moment.of(Schedule.parse(info.schedule).adjust(now.instant())).text());
                    out.writeFieldName("schedule");
                    MAPPER.writeTree(out, info.schedule);
                }
                out.writeEndObject();
                out.flush();
                return bytes.toByteArray();
            }
        }

        private void recipient(JsonParser in, JsonGenerator out) throws IOException {
            recipients = new ArrayList<>(1);
            if (in.currentToken() == JsonToken.START_ARRAY) {
                isList = true;
                out.writeStartArray();
                while (in.nextToken() != JsonToken.END_ARRAY) {
                    recipients.add(text(in, "recipient must be a string or a list of strings"));
                    out.writeString(recipients.get(recipients.size() - 1));
                }
                out.writeEndArray();
                require(!recipients.isEmpty(), "recipient must not be empty");
            } else {
                recipients.add(text(in, "recipient must be a string or a list of strings"));
                out.writeString(recipients.get(0));
            }
        }

        private void meta(JsonParser in, JsonGenerator out) throws IOException {
            out.writeStartObject();
            while (in.nextToken() != JsonToken.END_OBJECT) {
                String name = in.currentName();
                JsonToken value = in.nextToken();
                if (name.equals("xfer_queue_info")) {
                    require(value == JsonToken.START_OBJECT, "there is no xfer_queue_info");
                    info = info(in);
                } else if (PARTS.contains(name)) {
                    in.skipChildren(); // what the info says of it counts
                } else {
                    if (name.equals("reception_protocol") && value == JsonToken.VALUE_STRING) {
                        protocol = in.getText();
                    }
                    out.writeFieldName(name);
                    out.copyCurrentStructureExact(in);
                }
            }
            require(info != null, "there is no xfer_queue_info");
            for (int part = 0; part < 4; part++) {
                if (info.parts[part] != null) {
                    out.writeStringField(PARTS.get(part), info.parts[part]);
                }
            }
            out.writeEndObject();
        }

        private Info info(JsonParser in) throws IOException {
            var found = new Info();
            while (in.nextToken() != JsonToken.END_OBJECT) {
                String name = in.currentName();
                boolean isNull = in.nextToken() == JsonToken.VALUE_NULL;
                int part = PARTS.indexOf(name);
                if (part >= 0) {
                    found.parts[part] = isNull ? null : text(in, "a part of xfer_queue_info is not a string");
                } else if (name.equals("num_attempts")) {
                    found.attempts = attempts(in);
                } else if (name.equals("due") && !isNull) {
                    times.parse(text(in, "due is not an RFC 3339 time"));
                } else if (name.equals("schedule") && !isNull) {
                    found.schedule = in.readValueAsTree();
                } else {
                    in.skipChildren();
                }
            }
            return found;
        }

        String queue() {
            queue = info.parts[0];
            String domain;
            if (queue == null) {
                String recipient = recipients.get(0);
                int at = recipient.lastIndexOf('@');
                domain = at < 0 ? "" : recipient.substring(at + 1).toLowerCase(Locale.ROOT);
                String name = info.parts[1] == null ? domain : domain + "!" + info.parts[1];
                String tenant = info.parts[2];
                String campaign = info.parts[3];
                queue = campaign != null
                        ? campaign + ":" + (tenant == null ? "" : tenant) + "@" + name
                        : tenant == null ? name : tenant + "@" + name;
            } else {
                domain = queue.substring(queue.indexOf('@') + 1);
            }
            require(!domain.isEmpty() && domain.charAt(0) != '!', "the queue's name has no domain");
            require(
                    queue.length() <= MAX_NAME_BYTES / 4
                            || queue.getBytes(StandardCharsets.UTF_8).length <= MAX_NAME_BYTES,
                    "the queue's name is too long");
            return queue;
        }

        byte[] log(byte[] key, Destination destination, int size, Moment now) throws IOException {
            try (var bytes = new ByteArrayBuilder(1024);
                    JsonGenerator out = JSON.createGenerator(bytes)) {
                out.writeStartObject();
                out.writeStringField("type", "AdminRebind");
                out.writeStringField("id", key == null ? "" : new String(key, StandardCharsets.UTF_8));
                out.writeStringField("sender", sender);
                out.writeFieldName("recipient");
                if (isList && recipients.size() != 1) {
                    out.writeStartArray();
                    for (String recipient : recipients) {
                        out.writeString(recipient);
                    }
                    out.writeEndArray();
                } else {
                    out.writeString(recipients.get(0));
                }
                out.writeStringField("queue", queue);
                out.writeStringField("site", "");
                out.writeNumberField("size", size);
                out.writeObjectFieldStart("response");
                out.writeNumberField("code", 250);
                out.writeNullField("enhanced_code");
                out.writeStringField("content", destination.response);
                out.writeNullField("command");
                out.writeEndObject();
                out.writeNullField("peer_address");
                out.writeNumberField("timestamp", now.instant().getEpochSecond());
                out.writeStringField("event_time", now.text());
                out.writeNumberField("created", created.instant().getEpochSecond());
                out.writeStringField("created_time", created.text());
                out.writeNumberField("num_attempts", info.attempts);
                out.writeStringField("bounce_classification", "Uncategorized");
                out.writeNullField("egress_pool");
                out.writeNullField("egress_source");
                out.writeNullField("source_address");
                out.writeNullField("feedback_report");
                out.writeObjectFieldStart("meta");
                out.writeEndObject();
                out.writeObjectFieldStart("headers");
                out.writeEndObject();
                out.writeNullField("delivery_protocol");
                out.writeStringField("reception_protocol", protocol);
                out.writeStringField("nodeid", nodeId);
                out.writeEndObject();
                out.flush();
                return bytes.toByteArray();
            }
        }

        private int attempts(JsonParser in) throws IOException {
            require(in.currentToken() == JsonToken.VALUE_NUMBER_INT, "num_attempts must be a whole number");
            long attempts = in.getLongValue();
            require(attempts >= 0 && attempts <= MAX_ATTEMPTS, "num_attempts is out of range");
            return (int) attempts;
        }
    }

    private static String text(JsonParser in, String why) throws IOException {
        require(in.currentToken() == JsonToken.VALUE_STRING, why);
        return in.getText();
    }

    private static void require(boolean holds, String why) {
        if (!holds) {
            throw new NotRestorable(why);
        }
    }
}
