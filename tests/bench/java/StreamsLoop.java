import java.nio.file.Files;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsOptions;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.StreamPartitioner;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;

/** Kafka Streams, exactly_once_v2: a processor between the xfer topic, topics named by the record, and the log. */
final class StreamsLoop {
    private static final RecordHeader LOG_HEADER = new RecordHeader("type", "AdminRebind".getBytes());
    private static final long LOOK_MS = 5;
    /** Of the messages since the last commit; a thread has one transaction for all of its tasks. */
    private static final ThreadLocal<int[]> SINCE_COMMIT = ThreadLocal.withInitial(() -> new int[1]);

    /** What goes to a sink: its topic and partition come with the bytes. */
    private record Out(String topic, int partition, byte[] bytes) {}

    public static void main(String[] args) throws Exception {
        Job.run(StreamsLoop::drain);
    }

    private static Job.Done drain(Job job, Job.Source source, String tag, Job.Start start) throws Exception {
        var messages = new AtomicLong();
        var transactions = new AtomicLong();
        Serializer<Out> bytes = (topic, value) -> value.bytes;
        StreamPartitioner<byte[], Out> partitioner =
                (topic, key, value, count) -> Optional.of(Set.of(value.partition % count));
        var topology = new Topology();
        topology.addSource("xfer", new ByteArrayDeserializer(), new ByteArrayDeserializer(), source.topic());
        topology.addProcessor("rebind", () -> new Rebinding(job, source, messages, transactions), "xfer");
        topology.addSink(
                "queues",
                (byte[] key, Out value, org.apache.kafka.streams.processor.RecordContext context) -> value.topic,
                new ByteArraySerializer(),
                bytes,
                partitioner,
                "rebind");
        topology.addSink("log", source.logTopic(), new ByteArraySerializer(), bytes, partitioner, "rebind");
        String name = job.name() + "." + tag;
        var streams = new KafkaStreams(topology, settings(job, source, name));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        streams.pause(); // it is assigned its partitions, and processes nothing before the clock runs
        streams.start();
        while (streams.state() != KafkaStreams.State.RUNNING) {
            Thread.sleep(LOOK_MS);
        }
        try (var admin = Admin.create(Map.of("bootstrap.servers", job.bootstrap()))) {
            committed(admin, name);
            start.await();
            streams.resume();
            while (!isDone(source, committed(admin, name))) {
                Thread.sleep(LOOK_MS);
            }
        }
        if (tag.equals("warm-up")) {
            streams.close();
        }
        return new Job.Done(messages.get(), transactions.get());
    }

    private static Properties settings(Job job, Job.Source source, String name) throws Exception {
        var settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, name);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, job.bootstrap());
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, Math.min(job.threads(), source.ranges().size()));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, Files.createTempDirectory("bench-streams").toString());
        // The processor asks for its commits, by number of messages.
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 10_000);
        settings.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 5_000);
        settings.put(StreamsConfig.POLL_MS_CONFIG, 10);
        settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        settings.put(StreamsConfig.consumerPrefix("max.poll.records"), 1_000);
        settings.put(StreamsConfig.consumerPrefix("fetch.max.bytes"), 16 << 20);
        settings.put(StreamsConfig.consumerPrefix("max.partition.fetch.bytes"), 8 << 20);
        settings.put(StreamsConfig.consumerPrefix("fetch.max.wait.ms"), 100);
        settings.put(StreamsConfig.consumerPrefix("receive.buffer.bytes"), 1 << 20);
        settings.put(StreamsConfig.producerPrefix("acks"), "all");
        settings.put(StreamsConfig.producerPrefix("linger.ms"), 5);
        settings.put(StreamsConfig.producerPrefix("batch.size"), 512 << 10);
        settings.put(StreamsConfig.producerPrefix("buffer.memory"), 256L << 20);
        settings.put(StreamsConfig.producerPrefix("max.request.size"), 4 << 20);
        settings.put(StreamsConfig.producerPrefix("send.buffer.bytes"), 1 << 20);
        return settings;
    }

    private static Map<TopicPartition, OffsetAndMetadata> committed(Admin admin, String group) throws Exception {
        return admin.listConsumerGroupOffsets(group, new ListConsumerGroupOffsetsOptions().requireStable(true))
                .partitionsToOffsetAndMetadata()
                .get();
    }

    private static boolean isDone(Job.Source source, Map<TopicPartition, OffsetAndMetadata> committed) {
        return source.ranges().entrySet().stream().allMatch(range -> {
            OffsetAndMetadata at = committed.get(new TopicPartition(source.topic(), range.getKey()));
            long end = range.getValue()[1];
            return end == range.getValue()[0] || at != null && at.offset() >= end;
        });
    }

    /** The processor of one partition. */
    private static final class Rebinding implements Processor<byte[], byte[], byte[], Out> {
        private final Job job;
        private final Job.Source source;
        private final AtomicLong messages;
        private final AtomicLong transactions;
        private final Rebind rebind;
        private ProcessorContext<byte[], Out> context;
        private Moment now;

        Rebinding(Job job, Job.Source source, AtomicLong messages, AtomicLong transactions) {
            this.job = job;
            this.source = source;
            this.messages = messages;
            this.transactions = transactions;
            this.rebind = new Rebind(source.queue(), job.reason(), job.nodeId());
        }

        @Override
        public void init(ProcessorContext<byte[], Out> context) {
            this.context = context;
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            int[] since = SINCE_COMMIT.get();
            if (now == null || since[0] % job.transaction() == 0) {
                now = Moment.now();
            }
            var at = context.recordMetadata().orElseThrow();
            byte[] value = record.value();
            Rebind.Moved moved;
            try {
                moved = rebind.apply(record.key(), record.headers(), value == null ? 0 : value.length, now);
            } catch (java.io.IOException error) {
                throw new java.io.UncheckedIOException(error);
            }
            context.forward(
                    new Record<>(
                            record.key(),
                            new Out(moved.topic(), at.partition() % job.destinationPartitions(), value),
                            record.timestamp(),
                            moved.headers()),
                    "queues");
            context.forward(
                    new Record<>(
                            record.key(),
                            new Out(source.logTopic(), at.partition() % job.logPartitions(), moved.log()),
                            now.instant().toEpochMilli(),
                            new RecordHeaders(List.of(LOG_HEADER))),
                    "log");
            messages.incrementAndGet();
            if (++since[0] >= job.transaction() || at.offset() + 1 >= source.ranges().get(at.partition())[1]) {
                context.commit();
                transactions.incrementAndGet();
                since[0] = 0;
            }
        }
    }
}
