//! A mistake in the use of a macro, and how the compiler is told of it.

use proc_macro::{Delimiter, Group, Ident, Literal, Punct, Spacing, Span, TokenStream, TokenTree};

/// A message and the place it is about.
#[derive(Debug)]
pub(crate) struct Error {
    span: Span,
    message: String,
}

impl Error {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into() }
    }

    /// `::core::compile_error! { "message" }`, all of it at the span of the error, since the
    /// compiler underlines what lies between the first and the last token.
    pub(crate) fn into_compile_error(self) -> TokenStream {
        let mut tokens: Vec<TokenTree> = Vec::new();
        for segment in ["core", "compile_error"] {
            tokens.push(Punct::new(':', Spacing::Joint).into());
            tokens.push(Punct::new(':', Spacing::Alone).into());
            tokens.push(Ident::new(segment, self.span).into());
        }
        tokens.push(Punct::new('!', Spacing::Alone).into());
        let mut message = TokenTree::from(Literal::string(&self.message));
        message.set_span(self.span);
        tokens.push(Group::new(Delimiter::Brace, message.into()).into());
        for token in &mut tokens {
            token.set_span(self.span);
        }
        tokens.into_iter().collect()
    }
}
