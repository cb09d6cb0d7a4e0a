mod exposition;
mod serve;
fn main() {}
