// tour uses what an ordinary program uses, and says how it went; see tour_test.go for what it has to say.
use std::io::{self, BufRead};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, process, thread};

fn main() -> io::Result<()> {
    let args: String = env::args().skip(1).map(|a| format!(" [{}]", a)).collect();
    println!("args:{}", args);
    println!("env: {}", env::var("GREETING").unwrap_or_else(|_| "none".into()));
    for line in io::stdin().lock().lines() {
        println!("stdin: {}", line?);
    }
    fs::write("/data/tour.txt", "written by the guest")?;
    println!("file: {}", fs::read_to_string("/data/tour.txt")?);
    let outside = fs::read("/etc/passwd").is_ok();
    println!("outside: {}", if outside { "open" } else { "closed" });
    println!("entries: {}", fs::read_dir("/data")?.count());

    let began = Instant::now();
    thread::sleep(Duration::from_millis(20));
    let slept = began.elapsed();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let ok = wall > 1_700_000_000 && slept >= Duration::from_millis(20) && slept < Duration::from_secs(5);
    println!("clock: {}", if ok { "ok" } else { "wrong" });
    eprintln!("bye");
    process::exit(7)
}
