import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.GetResponse;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * RabbitMQ's dynamic shovel: the same messages, out of Kafka into one queue for each partition before the clock runs,
 * and then a shovel for each, acknowledging on the confirm of the queue that it moves them to.
 */
final class ShovelLoop {
    private static final int MOST_CHECKED = 10_000;
    private static final int CONFIRMED_EVERY = 500;
    private static final long LOOK_MS = 2;
    private static final int PERSISTENT = 2;
    private static final String VHOST = "%2F";

    public static void main(String[] args) throws Exception {
        var factory = new ConnectionFactory();
        factory.setHost("127.0.0.1");
        factory.setPort(Integer.getInteger("bench.amqp"));
        try (Connection connection = factory.newConnection()) {
            Job.run((job, source, tag, start) -> drain(connection, job, source, tag, start));
        }
    }

    private static Job.Done drain(Connection connection, Job job, Job.Source source, String tag, Job.Start start)
            throws Exception {
        try (Channel channel = connection.createChannel();
                HttpClient http =
                        HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build()) {
            Map<Integer, Long> wanted = new HashMap<>();
            for (int partition : source.ranges().keySet()) {
                channel.queueDeclare(from(tag, partition), true, false, false, Map.of("x-queue-version", 2));
                channel.queueDeclare(to(tag, partition), true, false, false, Map.of("x-queue-version", 2));
                long[] range = source.ranges().get(partition);
                wanted.put(partition, range[1] - range[0]);
            }
            long before = fill(channel, job, source, tag);
            start.await();
            for (int partition : wanted.keySet()) {
                shovel(http, tag, partition);
            }
            long messages = 0;
            for (var one : wanted.entrySet()) {
                while (channel.messageCount(to(tag, one.getKey())) < one.getValue()) {
                    Thread.sleep(LOOK_MS);
                }
                messages += one.getValue();
            }
            if (messages <= MOST_CHECKED && check(channel, tag, wanted) != before) {
                throw new IllegalStateException("what has arrived is not what was sent");
            }
            return new Job.Done(messages, 0);
        }
    }

    /** Publishes the range of each partition, confirmed; a sum over all messages, for the comparison afterwards. */
    private static long fill(Channel channel, Job job, Job.Source source, String tag) throws Exception {
        long sum = 0;
        channel.confirmSelect();
        Map<String, Object> settings = Map.of(
                "bootstrap.servers", job.bootstrap(), "isolation.level", "read_committed", "enable.auto.commit", false);
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            for (var range : source.ranges().entrySet()) {
                var partition = new TopicPartition(source.topic(), range.getKey());
                consumer.assign(java.util.List.of(partition));
                consumer.seek(partition, range.getValue()[0]);
                long count = 0;
                while (consumer.position(partition) < range.getValue()[1]) {
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                        Map<String, Object> headers = new HashMap<>();
                        for (Header header : record.headers()) {
                            headers.put(header.key(), new String(header.value(), "UTF-8"));
                        }
                        headers.put("key", new String(record.key(), "UTF-8"));
                        channel.basicPublish(
                                "",
                                from(tag, range.getKey()),
                                new AMQP.BasicProperties.Builder()
                                        .deliveryMode(PERSISTENT)
                                        .headers(headers)
                                        .build(),
                                record.value());
                        sum += hash(headers, record.value());
                        if (++count % CONFIRMED_EVERY == 0) {
                            channel.waitForConfirmsOrDie();
                        }
                    }
                }
            }
        }
        channel.waitForConfirmsOrDie();
        return sum;
    }

    private static void shovel(HttpClient http, String tag, int partition) throws Exception {
        String body = "{\"value\":{\"src-protocol\":\"amqp091\",\"src-uri\":\"amqp://\",\"src-queue\":\""
                + from(tag, partition) + "\",\"src-prefetch-count\":2000,\"dest-protocol\":\"amqp091\","
                + "\"dest-uri\":\"amqp://\",\"dest-queue\":\"" + to(tag, partition)
                + "\",\"ack-mode\":\"on-confirm\"}}";
        String secret = Base64.getEncoder().encodeToString("guest:guest".getBytes());
        var request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + Integer.getInteger("bench.http")
                        + "/api/parameters/shovel/" + VHOST + "/" + tag + "-" + partition))
                .header("Authorization", "Basic " + secret)
                .header("Content-Type", "application/json")
                .PUT(HttpRequest.BodyPublishers.ofString(body))
                .build();
        HttpResponse<String> answer = http.send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() >= 300) {
            throw new IOException("no shovel: " + answer.statusCode() + " " + answer.body());
        }
    }

    private static long check(Channel channel, String tag, Map<Integer, Long> wanted) throws Exception {
        long sum = 0;
        for (int partition : wanted.keySet()) {
            if (channel.messageCount(from(tag, partition)) != 0) {
                throw new IllegalStateException("not all of it was moved");
            }
            for (GetResponse got; (got = channel.basicGet(to(tag, partition), true)) != null; ) {
                sum += hash(got.getProps().getHeaders(), got.getBody());
            }
        }
        return sum;
    }

    /** The same for headers as strings and as what the client reads them as. */
    private static long hash(Map<String, Object> headers, byte[] body) {
        long hash = Arrays.hashCode(body);
        for (var header : new TreeMap<>(headers).entrySet()) {
            hash = hash * 31 + (header.getKey() + "=" + header.getValue()).hashCode() * 7919L;
        }
        return hash * 0x9e3779b97f4a7c15L;
    }

    private static String from(String tag, int partition) {
        return tag + ".from." + partition;
    }

    private static String to(String tag, int partition) {
        return tag + ".to." + partition;
    }
}
