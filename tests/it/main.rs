mod exposition;
mod peer {
    pub mod http;
}
mod probe;
mod serve;
fn main() {}
