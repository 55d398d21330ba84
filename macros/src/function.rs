//! The function that the attribute stands on, taken apart.
//!
//! Token by token, without a parser of Rust: the compiler has parsed the item already, so only
//! the few shapes of a function's head have to be told apart. A fragment of a `macro_rules!`
//! macro, such as `$vis` or `$body:block`, arrives as a group without delimiters.

use std::iter::Peekable;

use proc_macro::{Delimiter, Group, Ident, TokenStream, TokenTree, token_stream};

use crate::error::Error;

type Tokens = Peekable<token_stream::IntoIter>;

/// `attributes visibility fn name() -> output body`.
#[derive(Debug)]
pub(crate) struct Function {
    /// Each `#` and the brackets after it.
    pub(crate) attributes: Vec<TokenTree>,
    pub(crate) visibility: Vec<TokenTree>,
    /// The keyword `fn`.
    pub(crate) keyword: Ident,
    pub(crate) name: Ident,
    /// The empty parentheses.
    pub(crate) parameters: Group,
    /// The type after `->`, empty where the function returns `()`.
    pub(crate) output: Vec<TokenTree>,
    pub(crate) body: Group,
}

impl Function {
    /// Takes `item` apart, or says why a function of this shape cannot be run. `attribute` is
    /// the name of the macro, for the messages.
    pub(crate) fn parse(item: TokenStream, attribute: &str) -> Result<Self, Error> {
        let mut tokens = item.into_iter().peekable();
        let attributes = take_attributes(&mut tokens);
        let visibility = take_visibility(&mut tokens);
        let keyword = take_fn(&mut tokens, attribute)?;
        let Some(TokenTree::Ident(name)) = tokens.next() else {
            return Err(Error::new(keyword.span(), "expected a name after `fn`"));
        };
        let parameters = take_parameters(&mut tokens, &name, attribute)?;
        let (output, body) = take_output_and_body(&mut tokens, &name, attribute)?;
        Ok(Self { attributes, visibility, keyword, name, parameters, output, body })
    }

    /// The first attribute that is the word `test` alone.
    pub(crate) fn test_attribute(&self) -> Option<&TokenTree> {
        self.attributes.iter().find(|token| match token {
            TokenTree::Group(brackets) => brackets.stream().to_string() == "test",
            _ => false,
        })
    }
}

fn is_punct(token: &TokenTree, expected: char) -> bool {
    matches!(token, TokenTree::Punct(sign) if sign.as_char() == expected)
}

fn is_group(token: &TokenTree, expected: Delimiter) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == expected)
}

fn take_attributes(tokens: &mut Tokens) -> Vec<TokenTree> {
    let mut attributes = Vec::new();
    while let Some(hash) = tokens.next_if(|token| is_punct(token, '#')) {
        attributes.push(hash);
        attributes.extend(tokens.next());
    }
    attributes
}

/// Takes `pub`, `pub(...)`, or the fragment `$vis`.
fn take_visibility(tokens: &mut Tokens) -> Vec<TokenTree> {
    let mut visibility = Vec::new();
    let is_pub =
        |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word.to_string() == "pub");
    if let Some(fragment) = tokens.next_if(|token| is_group(token, Delimiter::None)) {
        visibility.push(fragment);
    } else if let Some(keyword) = tokens.next_if(is_pub) {
        visibility.push(keyword);
        visibility.extend(tokens.next_if(|token| is_group(token, Delimiter::Parenthesis)));
    }
    visibility
}

/// Takes `fn`. The words that may stand before it are all refused.
fn take_fn(tokens: &mut Tokens, attribute: &str) -> Result<Ident, Error> {
    let refused = match tokens.next() {
        Some(TokenTree::Ident(word)) => match word.to_string().as_str() {
            "fn" => return Ok(word),
            "async" => Error::new(
                word.span(),
                "code on bine blocks and is never `async`: remove the `async`",
            ),
            // `const` may begin a constant, `extern` a block and `unsafe` an `impl`.
            qualifier @ ("const" | "unsafe" | "extern") if tokens.any(|token| is_fn(&token)) => {
                Error::new(
                    word.span(),
                    format!("`#[bine::{attribute}]` does not work on `{qualifier}` functions"),
                )
            }
            _ => not_a_function(word.into(), attribute),
        },
        Some(other) => not_a_function(other, attribute),
        None => Error::new(proc_macro::Span::call_site(), "expected a function"),
    };
    Err(refused)
}

fn is_fn(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Ident(word) if word.to_string() == "fn")
}

fn not_a_function(token: TokenTree, attribute: &str) -> Error {
    Error::new(token.span(), format!("`#[bine::{attribute}]` goes on a function"))
}

/// Takes the empty parentheses after the name.
fn take_parameters(tokens: &mut Tokens, name: &Ident, attribute: &str) -> Result<Group, Error> {
    match tokens.next() {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => {
            if group.stream().is_empty() {
                return Ok(group);
            }
            let message = format!("a `#[bine::{attribute}]` function takes no arguments");
            Err(Error::new(group.span(), message))
        }
        Some(token) if is_punct(&token, '<') => {
            let message = format!("a `#[bine::{attribute}]` function cannot be generic");
            Err(Error::new(token.span(), message))
        }
        _ => Err(Error::new(name.span(), "expected `()` after the function's name")),
    }
}

/// Takes `-> output { body }`.
fn take_output_and_body(
    tokens: &mut Tokens,
    name: &Ident,
    attribute: &str,
) -> Result<(Vec<TokenTree>, Group), Error> {
    let mut rest: Vec<TokenTree> = tokens.collect();
    let is_where =
        |token: &&TokenTree| matches!(token, TokenTree::Ident(word) if word.to_string() == "where");
    if let Some(keyword) = rest.iter().find(is_where) {
        let message = format!("a `#[bine::{attribute}]` function cannot have a `where` clause");
        return Err(Error::new(keyword.span(), message));
    }
    let Some(body) = rest.pop().and_then(into_body) else {
        let message = format!("a `#[bine::{attribute}]` function needs a body");
        return Err(Error::new(name.span(), message));
    };
    // What is left is `->` and a type, or nothing.
    let output = if rest.len() > 2 { rest.split_off(2) } else { Vec::new() };
    if let [TokenTree::Group(unit)] = output.as_slice()
        && unit.delimiter() == Delimiter::Parenthesis
        && unit.stream().is_empty()
    {
        return Ok((Vec::new(), body));
    }
    Ok((output, body))
}

/// The braces, or the fragment `$body:block`, as a group.
fn into_body(token: TokenTree) -> Option<Group> {
    let TokenTree::Group(group) = token else { return None };
    match group.delimiter() {
        Delimiter::Brace => Some(group),
        Delimiter::None => {
            let mut inner = group.stream().into_iter();
            inner.next().filter(|_| inner.next().is_none()).and_then(into_body)
        }
        _ => None,
    }
}
