//! What the macros turn a function into.
//!
//! Everything written here has mixed-site spans: paths resolve as they would in the caller's
//! crate, and the compiler knows the code for a macro's. No local variable is introduced, so no
//! name of the caller's can collide with one.

use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

use crate::error::Error;
use crate::function::Function;
use crate::options::Options;

/// Which of the macros is expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Main,
    Test,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Test => "test",
        }
    }
}

/// Expands one use of a macro.
pub(crate) fn attribute(kind: Kind, options: TokenStream, item: TokenStream) -> TokenStream {
    match parse(kind, options, item.clone()) {
        Ok((options, function)) => expand(kind, options, function),
        // The function stays in the program, so that nothing is reported twice, as a `main` that
        // cannot be found or an import that is not used.
        Err(error) => error.into_compile_error().into_iter().chain(item).collect(),
    }
}

fn parse(
    kind: Kind,
    options: TokenStream,
    item: TokenStream,
) -> Result<(Options, Function), Error> {
    let function = Function::parse(item, kind.name())?;
    let options = Options::parse(options)?;
    if kind == Kind::Test
        && let Some(second) = function.test_attribute()
    {
        return Err(Error::new(second.span(), "`#[bine::test]` adds `#[test]` itself"));
    }
    Ok((options, function))
}

fn expand(kind: Kind, options: Options, function: Function) -> TokenStream {
    let Function { attributes, visibility, keyword, name, parameters, output, body } = function;
    let head = || -> [TokenTree; 3] {
        [keyword.clone().into(), name.clone().into(), parameters.clone().into()]
    };

    let mut inner = TokenStream::from_iter(head());
    if !output.is_empty() {
        inner.extend(code("->"));
        inner.extend(output.clone());
    }
    inner.extend([TokenTree::from(body)]);
    inner.extend(run(kind, options));
    inner.extend([parenthesized(entry(&name, &output))]);

    let mut outer = TokenStream::new();
    if kind == Kind::Test {
        outer.extend(code("#[::core::prelude::v1::test]"));
    }
    outer.extend(attributes);
    outer.extend(visibility);
    outer.extend(head());
    match output.as_slice() {
        [] => {}
        [TokenTree::Punct(_)] => outer.extend(code("-> !")),
        _ => outer.extend(code("-> ::std::process::ExitCode")),
    }
    outer.extend([TokenTree::from(Group::new(Delimiter::Brace, inner))]);
    outer
}

/// What is run: the inner function, or a closure that calls it and reports its result. The result
/// stays on the green thread, since it may not be `Send`; an exit code is. A function that returns
/// nothing, or never returns (the type `!`, the only one of a single punctuation mark), has none.
fn entry(name: &Ident, output: &[TokenTree]) -> TokenStream {
    if let [] | [TokenTree::Punct(_)] = output {
        return TokenTree::from(name.clone()).into();
    }
    // Located at the return type, which is what is wrong if this does not compile.
    let place = output[0].span();
    let call = [name.clone().into(), parenthesized(TokenStream::new())].into_iter().collect();
    let mut closure = code("|| ::std::process::Termination::report");
    closure.extend([parenthesized(call)]);
    closure.into_iter().map(|token| respan(token, |span| span.located_at(place))).collect()
}

/// The function or method that runs the entry, without its argument.
fn run(kind: Kind, options: Options) -> TokenStream {
    if kind == Kind::Main && options.is_empty() {
        return code("::bine::run");
    }
    let mut tokens = code("::bine::runtime::Builder::new()");
    if let Some(migrate) = options.migrate {
        // First, so that the expressions of the other options stand outside the block. In
        // parentheses, since a statement that began with a block would end with it.
        tokens.extend(code(".migrate()"));
        tokens = parenthesized(unsafe_block(migrate, tokens)).into();
    }
    for (method, value) in [(".workers", options.workers), (".stack_size", options.stack_size)] {
        if let Some(value) = value {
            tokens.extend(code(method));
            tokens.extend([parenthesized(value)]);
        }
    }
    tokens.extend(code(r#".build().expect("cannot start the bine runtime").run"#));
    tokens
}

/// An unsafe block at `place`, where the caller wrote `migrate`: so rustc's lint on unsafe code
/// reports it there. Not at the word `unsafe`: clippy would then ask for a safety comment in the
/// function, where the caller cannot write one.
fn unsafe_block(place: Span, inner: TokenStream) -> TokenStream {
    let mut block = Group::new(Delimiter::Brace, inner);
    block.set_span(place);
    [TokenTree::from(Ident::new("unsafe", place)), block.into()].into_iter().collect()
}

fn parenthesized(inner: TokenStream) -> TokenTree {
    let mut group = Group::new(Delimiter::Parenthesis, inner);
    group.set_span(Span::mixed_site());
    group.into()
}

/// The tokens of `source`.
fn code(source: &str) -> TokenStream {
    let tokens: TokenStream = source.parse().expect("the macro's own code has matched delimiters");
    tokens.into_iter().map(|token| respan(token, |_| Span::mixed_site())).collect()
}

/// The token, and all tokens in it, with new spans.
fn respan(mut token: TokenTree, new: impl Fn(Span) -> Span + Copy) -> TokenTree {
    let span = new(token.span());
    if let TokenTree::Group(group) = &token {
        let inner = group.stream().into_iter().map(|token| respan(token, new)).collect();
        token = Group::new(group.delimiter(), inner).into();
    }
    token.set_span(span);
    token
}
