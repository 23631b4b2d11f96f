import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.util.LinkedHashMap;

/** Reads JSON lines, and writes each again as Jackson does; every second one in ASCII. */
public class Encode {
    public static void main(String[] args) throws Exception {
        var plain = new ObjectMapper();
        var ascii = new ObjectMapper();
        ascii.getFactory().configure(JsonGenerator.Feature.ESCAPE_NON_ASCII, true);
        var lines = new BufferedReader(new InputStreamReader(System.in, "UTF-8"));
        var out = new PrintStream(System.out, true, "UTF-8");
        var number = 0;
        for (String line = lines.readLine(); line != null; line = lines.readLine(), number++) {
            var value = plain.readValue(line, LinkedHashMap.class);
            out.print((number % 2 == 0 ? plain : ascii).writeValueAsString(value) + "\n");
        }
    }
}
