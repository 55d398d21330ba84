//! What `docs/model-checking.md` quotes is in the sources, word for word.

const TUTORIAL: &str = include_str!("../../../docs/model-checking.md");
const SOURCES: [&str; 2] = [include_str!("../src/buffer.rs"), include_str!("buffer.rs")];

#[test]
fn the_tutorial_quotes_what_is_tested() {
    let mut quotes = 0;
    for rest in TUTORIAL.split("```rust,quoted\n").skip(1) {
        let quote = rest.split("```").next().unwrap();
        assert!(SOURCES.iter().any(|source| source.contains(quote)), "not found: {quote}");
        quotes += 1;
    }
    assert_eq!(quotes, 3);
}
