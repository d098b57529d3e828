//! The options of `host!`, from tokens. Knows no WIT.

use proc_macro2::Span;
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Error, Ident, LitStr, Path, Result, Token, braced, bracketed, parse_quote, token};

/// What the invocation says.
pub struct Options {
    /// WIT packages and files, relative to the manifest.
    pub paths: Vec<LitStr>,
    /// What to generate.
    pub selection: Selection,
    /// Where resources and foreign interfaces are implemented.
    pub with: Vec<With>,
    /// Functions of sync type in which a guest may have to wait.
    pub blocking: Vec<LitStr>,
    /// Features of unstable WIT items.
    pub features: Vec<LitStr>,
    /// The path of the crate `interflow`.
    pub root: Path,
}

/// Which interfaces are meant.
pub enum Selection {
    /// All that the world imports.
    World(LitStr),
    /// These.
    Interfaces(Vec<LitStr>),
}

/// `"wasi:http/types/fields": crate::http::Fields`
pub struct With {
    /// The name of a resource or an interface.
    pub key: LitStr,
    /// The Rust type or the module.
    pub path: Path,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Options> {
        let mut paths = None;
        let mut world = None;
        let mut interfaces = None;
        let mut with = None;
        let mut blocking = None;
        let mut features = None;
        let mut root = None;
        while !input.is_empty() {
            // `crate` is a keyword.
            let option = input.call(Ident::parse_any)?;
            input.parse::<Token![:]>()?;
            match option.to_string().as_str() {
                "path" => once(&option, &mut paths, one_or_more(input)?)?,
                "world" => once(&option, &mut world, input.parse::<LitStr>()?)?,
                "interfaces" => once(&option, &mut interfaces, list(input)?)?,
                "with" => once(&option, &mut with, map(input)?)?,
                "blocking" => once(&option, &mut blocking, list(input)?)?,
                "features" => once(&option, &mut features, list(input)?)?,
                "crate" => once(&option, &mut root, input.call(Path::parse_mod_style)?)?,
                other => return Err(Error::new(option.span(), unknown(other))),
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let selection = match (world, interfaces) {
            (Some(world), None) => Selection::World(world),
            (None, Some(interfaces)) => Selection::Interfaces(interfaces),
            (None, None) => return Err(missing("say which `interfaces`, or which `world`")),
            (Some(world), Some(_)) => {
                return Err(Error::new(world.span(), "say either `world` or `interfaces`, not both"));
            }
        };
        Ok(Options {
            paths: paths.ok_or_else(|| missing("say where the WIT is: `path: \"../wit\"`"))?,
            selection,
            with: with.unwrap_or_default(),
            blocking: blocking.unwrap_or_default(),
            features: features.unwrap_or_default(),
            root: root.unwrap_or_else(|| parse_quote!(crate)),
        })
    }
}

impl Selection {
    /// Where an error about the selection as a whole points to.
    pub fn span(&self) -> Span {
        match self {
            Selection::World(world) => world.span(),
            Selection::Interfaces(interfaces) => interfaces.first().map_or_else(Span::call_site, LitStr::span),
        }
    }
}

fn unknown(option: &str) -> String {
    format!("no option `{option}`; there are `path`, `world`, `interfaces`, `with`, `blocking`, `features` and `crate`")
}

fn missing(what: &str) -> Error {
    Error::new(Span::call_site(), what)
}

fn once<T>(option: &Ident, place: &mut Option<T>, value: T) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::new(option.span(), format!("option `{option}` is here twice"))),
    }
}

fn one_or_more(input: ParseStream<'_>) -> Result<Vec<LitStr>> {
    if input.peek(token::Bracket) { list(input) } else { Ok(vec![input.parse()?]) }
}

fn list(input: ParseStream<'_>) -> Result<Vec<LitStr>> {
    let content;
    bracketed!(content in input);
    Ok(content.parse_terminated(|item| item.parse::<LitStr>(), Token![,])?.into_iter().collect())
}

fn map(input: ParseStream<'_>) -> Result<Vec<With>> {
    let content;
    braced!(content in input);
    Ok(content.parse_terminated(With::parse, Token![,])?.into_iter().collect())
}

impl Parse for With {
    fn parse(input: ParseStream<'_>) -> Result<With> {
        let key = input.parse()?;
        input.parse::<Token![:]>()?;
        Ok(With { key, path: input.parse()? })
    }
}

/// A path as written beside the macro, for use `depth` modules further in.
pub fn seen_from(path: &Path, depth: usize) -> impl ToTokens + use<> {
    let absolute = path.leading_colon.is_some() || path.segments.first().is_some_and(|s| s.ident == "crate");
    let relative_to_self = path.segments.first().is_some_and(|s| s.ident == "self");
    let supers = (0..depth).map(|_| quote!(super::));
    match (absolute, relative_to_self) {
        (true, _) => quote!(#path),
        (false, false) => quote!(#(#supers)* #path),
        (false, true) => {
            let rest = path.segments.iter().skip(1);
            quote!(#(#supers)* #(#rest)::*)
        }
    }
}
