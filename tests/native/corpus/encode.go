// Reads JSON lines, and writes each again as Go's encoding/json does.
package main

import (
	"bufio"
	"encoding/json"
	"os"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var value map[string]any
		if err := json.Unmarshal(lines.Bytes(), &value); err != nil {
			panic(err)
		}
		if err := out.Encode(value); err != nil {
			panic(err)
		}
	}
}
