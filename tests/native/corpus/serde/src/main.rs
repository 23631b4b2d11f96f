//! Reads JSON lines, and writes each again as serde_json does.

use std::io::{BufRead, stdin};

fn main() {
    for line in stdin().lock().lines() {
        let value: serde_json::Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        println!("{value}");
    }
}
