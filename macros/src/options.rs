//! What stands between the parentheses of the attribute.
//!
//! ```text
//! options = [ option { "," option } [ "," ] ]
//! option  = "workers" "=" EXPR | "stack_size" "=" EXPR | "unsafe" "(" "migrate" ")"
//! ```

use proc_macro::{Delimiter, Ident, Span, TokenStream, TokenTree, token_stream};

use crate::error::Error;

const KNOWN: &str = "the options are `workers = EXPR`, `stack_size = EXPR` and `unsafe(migrate)`";

const MIGRATE_IS_UNSAFE: &str = "`migrate` must be written as `unsafe(migrate)`: it promises that \
     no green thread holds a thread-local borrow across a blocking call";

/// The options that were given.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// The expression after `workers =`.
    pub(crate) workers: Option<TokenStream>,
    /// The expression after `stack_size =`.
    pub(crate) stack_size: Option<TokenStream>,
    /// The place of the word `migrate` in `unsafe(migrate)`.
    pub(crate) migrate: Option<Span>,
}

impl Options {
    pub(crate) fn parse(tokens: TokenStream) -> Result<Self, Error> {
        let mut options = Self::default();
        let mut tokens = tokens.into_iter();
        while let Some(token) = tokens.next() {
            let TokenTree::Ident(name) = token else {
                return Err(Error::new(token.span(), format!("expected an option: {KNOWN}")));
            };
            options.parse_one(name, &mut tokens)?;
        }
        Ok(options)
    }

    /// Whether the default runtime will do.
    pub(crate) fn is_empty(&self) -> bool {
        self.workers.is_none() && self.stack_size.is_none() && self.migrate.is_none()
    }

    /// Parses what follows the first word of an option, with the comma behind it.
    fn parse_one(&mut self, name: Ident, tokens: &mut token_stream::IntoIter) -> Result<(), Error> {
        match name.to_string().as_str() {
            "workers" => {
                let value = value_of(&name, tokens)?;
                set_once(&mut self.workers, value, name.span(), "workers")
            }
            "stack_size" => {
                let value = value_of(&name, tokens)?;
                set_once(&mut self.stack_size, value, name.span(), "stack_size")
            }
            "unsafe" => {
                let place = take_promise(&name, tokens)?;
                set_once(&mut self.migrate, place, name.span(), "unsafe(migrate)")
            }
            "migrate" => Err(Error::new(name.span(), MIGRATE_IS_UNSAFE)),
            unknown => Err(Error::new(name.span(), format!("unknown option `{unknown}`: {KNOWN}"))),
        }
    }
}

fn set_once<T>(option: &mut Option<T>, value: T, place: Span, name: &str) -> Result<(), Error> {
    match option.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::new(place, format!("the option `{name}` is given twice"))),
    }
}

/// Parses `= EXPR ,`.
fn value_of(name: &Ident, tokens: &mut token_stream::IntoIter) -> Result<TokenStream, Error> {
    let expected = || format!("expected a value: `{name} = EXPR`");
    match tokens.next() {
        Some(TokenTree::Punct(sign)) if sign.as_char() == '=' => {}
        Some(other) => return Err(Error::new(other.span(), expected())),
        None => return Err(Error::new(name.span(), expected())),
    }
    let expression = take_expression(tokens);
    if expression.is_empty() { Err(Error::new(name.span(), expected())) } else { Ok(expression) }
}

/// Takes the tokens up to the next comma, and that comma. A comma between the angle brackets of
/// a path, as in `size_of::<Pair<A, B>>()`, is not the end. Brackets count only from `::<` on,
/// or at the very beginning: elsewhere in an expression `<` compares.
fn take_expression(tokens: &mut token_stream::IntoIter) -> TokenStream {
    let mut expression: Vec<TokenTree> = Vec::new();
    let mut open_brackets = 0_usize;
    let mut previous = ' ';
    for token in tokens {
        let current = match &token {
            TokenTree::Punct(sign) => sign.as_char(),
            _ => ' ',
        };
        match current {
            ',' if open_brackets == 0 => break,
            '<' if open_brackets > 0 || previous == ':' || expression.is_empty() => {
                open_brackets += 1;
            }
            // The `>` of `->`, in a function pointer's type, closes nothing.
            '>' if previous != '-' => open_brackets = open_brackets.saturating_sub(1),
            _ => {}
        }
        previous = current;
        expression.push(token);
    }
    expression.into_iter().collect()
}

/// Parses `(migrate) ,` after `unsafe` and returns where `migrate` stands.
fn take_promise(keyword: &Ident, tokens: &mut token_stream::IntoIter) -> Result<Span, Error> {
    let promise = match tokens.next() {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => group,
        _ => {
            return Err(Error::new(keyword.span(), format!("expected `unsafe(migrate)`: {KNOWN}")));
        }
    };
    let mut inner = promise.stream().into_iter();
    let migrate = match (inner.next(), inner.next()) {
        (Some(TokenTree::Ident(word)), None) if word.to_string() == "migrate" => word.span(),
        (first, _) => {
            let span = first.map_or_else(|| promise.span(), |token| token.span());
            return Err(Error::new(span, format!("only `migrate` is unsafe: {KNOWN}")));
        }
    };
    match tokens.next() {
        None => Ok(migrate),
        Some(TokenTree::Punct(sign)) if sign.as_char() == ',' => Ok(migrate),
        Some(other) => Err(Error::new(other.span(), "expected `,` after `unsafe(migrate)`")),
    }
}
