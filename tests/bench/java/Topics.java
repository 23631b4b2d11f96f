import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;

/** Queue names as topic names: streams/domain/topic.py. */
final class Topics {
    private static final String PREFIX = "queue.";
    private static final int MAX_LENGTH = 249;
    private static final int KEPT_OF_LONG = 150;

    private Topics() {}

    static String of(String queue) {
        byte[] raw = queue.getBytes(StandardCharsets.UTF_8);
        var encoded = new StringBuilder(raw.length + 16);
        for (byte one : raw) {
            char at = (char) (one & 0xff);
            if (at >= 'A' && at <= 'Z' || at >= 'a' && at <= 'z' || at >= '0' && at <= '9' || at == '.') {
                encoded.append(at);
            } else {
                encoded.append('-').append(HexFormat.of().toHexDigits(one));
            }
        }
        if (PREFIX.length() + encoded.length() <= MAX_LENGTH) {
            return PREFIX + encoded;
        }
        try {
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(raw);
            return PREFIX + encoded.substring(0, KEPT_OF_LONG) + "--" + HexFormat.of().formatHex(digest);
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException(error);
        }
    }
}
