//! `wasi:http/types`, function by function; what they do is with the resources.

use super::bindings::wasi::http::types::{
    Duration as Nanoseconds, FieldName, FieldValue, HeaderError, Headers, Host, Method, RequestOptionsError, Scheme,
    StatusCode, Trailers,
};
use super::body::Body;
use super::options::to_nanos;
use super::{ErrorCode, Fields, Http, Message, Request, RequestOptions, Response};
use crate::abi::{HostCx, Result};
use crate::host::stream::{FutureReader, StreamReader};
use crate::host::value::{Borrow, Failure, Own};
use std::result::Result as StdResult;
use std::time::Duration;
use wasmtime::format_err;

type Transmitted = FutureReader<StdResult<(), ErrorCode>>;
type TrailersFuture = FutureReader<StdResult<Option<Own<Trailers>>, ErrorCode>>;

impl Host for Http {
    fn fields_new(cx: &mut HostCx<'_>) -> Result<Own<Fields>> {
        Ok(Own::new(Fields::new(cx.account())))
    }

    fn fields_from_list(
        cx: &mut HostCx<'_>,
        entries: Vec<(FieldName, FieldValue)>,
    ) -> StdResult<Own<Fields>, Failure<HeaderError>> {
        Ok(Own::new(Fields::from_list(cx.account(), entries)?))
    }

    fn fields_get(_: &mut HostCx<'_>, self_: Borrow<Fields>, name: FieldName) -> Result<Vec<FieldValue>> {
        Ok(self_.get(&name))
    }

    fn fields_has(_: &mut HostCx<'_>, self_: Borrow<Fields>, name: FieldName) -> Result<bool> {
        Ok(self_.has(&name))
    }

    fn fields_set(
        _: &mut HostCx<'_>,
        self_: Borrow<Fields>,
        name: FieldName,
        value: Vec<FieldValue>,
    ) -> StdResult<(), Failure<HeaderError>> {
        Ok(self_.set(&name, value)?)
    }

    fn fields_delete(
        _: &mut HostCx<'_>,
        self_: Borrow<Fields>,
        name: FieldName,
    ) -> StdResult<(), Failure<HeaderError>> {
        Ok(self_.delete(&name)?)
    }

    fn fields_get_and_delete(
        _: &mut HostCx<'_>,
        self_: Borrow<Fields>,
        name: FieldName,
    ) -> StdResult<Vec<FieldValue>, Failure<HeaderError>> {
        Ok(self_.get_and_delete(&name)?)
    }

    fn fields_append(
        _: &mut HostCx<'_>,
        self_: Borrow<Fields>,
        name: FieldName,
        value: FieldValue,
    ) -> StdResult<(), Failure<HeaderError>> {
        Ok(self_.append(&name, value)?)
    }

    fn fields_copy_all(_: &mut HostCx<'_>, self_: Borrow<Fields>) -> Result<Vec<(FieldName, FieldValue)>> {
        Ok(self_.copy_all())
    }

    fn fields_clone(cx: &mut HostCx<'_>, self_: Borrow<Fields>) -> Result<Own<Fields>> {
        let refused = || format_err!("the host keeps too much for the component already to copy fields");
        Ok(Own::new(self_.duplicate(cx.account()).ok_or_else(refused)?))
    }

    fn request_new(
        _: &mut HostCx<'_>,
        headers: Own<Headers>,
        contents: Option<StreamReader<u8>>,
        trailers: TrailersFuture,
        options: Option<Own<RequestOptions>>,
    ) -> Result<(Own<Request>, Transmitted)> {
        let (body, transmitted) = Body::made(Message::Request, contents, trailers);
        let request = Request::made(headers.0, options.map(|options| options.0), body);
        Ok((Own::new(request), transmitted))
    }

    fn request_get_method(_: &mut HostCx<'_>, self_: Borrow<Request>) -> Result<Method> {
        Ok(self_.head.borrow().method())
    }

    fn request_set_method(cx: &mut HostCx<'_>, self_: Borrow<Request>, method: Method) -> StdResult<(), Failure<()>> {
        Ok(self_.change(cx.account(), |head| head.set_method(method))?)
    }

    fn request_get_path_with_query(_: &mut HostCx<'_>, self_: Borrow<Request>) -> Result<Option<String>> {
        Ok(self_.head.borrow().path_with_query.as_ref().map(|path| path.as_str().to_string()))
    }

    fn request_set_path_with_query(
        cx: &mut HostCx<'_>,
        self_: Borrow<Request>,
        path_with_query: Option<String>,
    ) -> StdResult<(), Failure<()>> {
        Ok(self_.change(cx.account(), |head| head.set_path_with_query(path_with_query))?)
    }

    fn request_get_scheme(_: &mut HostCx<'_>, self_: Borrow<Request>) -> Result<Option<Scheme>> {
        Ok(self_.head.borrow().scheme())
    }

    fn request_set_scheme(
        cx: &mut HostCx<'_>,
        self_: Borrow<Request>,
        scheme: Option<Scheme>,
    ) -> StdResult<(), Failure<()>> {
        Ok(self_.change(cx.account(), |head| head.set_scheme(scheme))?)
    }

    fn request_get_authority(_: &mut HostCx<'_>, self_: Borrow<Request>) -> Result<Option<String>> {
        Ok(self_.head.borrow().authority.as_ref().map(ToString::to_string))
    }

    fn request_set_authority(
        cx: &mut HostCx<'_>,
        self_: Borrow<Request>,
        authority: Option<String>,
    ) -> StdResult<(), Failure<()>> {
        Ok(self_.change(cx.account(), |head| head.set_authority(authority))?)
    }

    fn request_get_options(_: &mut HostCx<'_>, self_: Borrow<Request>) -> Result<Option<Own<RequestOptions>>> {
        Ok(self_.options.clone().map(Own))
    }

    fn request_get_headers(_: &mut HostCx<'_>, self_: Borrow<Request>) -> Result<Own<Headers>> {
        Ok(Own(self_.headers.clone()))
    }

    fn request_consume_body(
        _: &mut HostCx<'_>,
        this: Own<Request>,
        res: FutureReader<StdResult<(), ErrorCode>>,
    ) -> Result<(StreamReader<u8>, TrailersFuture)> {
        Ok(this.take_body().consume(res))
    }

    fn request_options_new(_: &mut HostCx<'_>) -> Result<Own<RequestOptions>> {
        Ok(Own::new(RequestOptions::default()))
    }

    fn request_options_get_connect_timeout(
        _: &mut HostCx<'_>,
        self_: Borrow<RequestOptions>,
    ) -> Result<Option<Nanoseconds>> {
        Ok(to_nanos(self_.timeouts().connect))
    }

    fn request_options_set_connect_timeout(
        _: &mut HostCx<'_>,
        self_: Borrow<RequestOptions>,
        duration: Option<Nanoseconds>,
    ) -> StdResult<(), Failure<RequestOptionsError>> {
        let duration = duration.map(Duration::from_nanos);
        Ok(self_.change(|timeouts| timeouts.connect = duration)?)
    }

    fn request_options_get_first_byte_timeout(
        _: &mut HostCx<'_>,
        self_: Borrow<RequestOptions>,
    ) -> Result<Option<Nanoseconds>> {
        Ok(to_nanos(self_.timeouts().first_byte))
    }

    fn request_options_set_first_byte_timeout(
        _: &mut HostCx<'_>,
        self_: Borrow<RequestOptions>,
        duration: Option<Nanoseconds>,
    ) -> StdResult<(), Failure<RequestOptionsError>> {
        let duration = duration.map(Duration::from_nanos);
        Ok(self_.change(|timeouts| timeouts.first_byte = duration)?)
    }

    fn request_options_get_between_bytes_timeout(
        _: &mut HostCx<'_>,
        self_: Borrow<RequestOptions>,
    ) -> Result<Option<Nanoseconds>> {
        Ok(to_nanos(self_.timeouts().between_bytes))
    }

    fn request_options_set_between_bytes_timeout(
        _: &mut HostCx<'_>,
        self_: Borrow<RequestOptions>,
        duration: Option<Nanoseconds>,
    ) -> StdResult<(), Failure<RequestOptionsError>> {
        let duration = duration.map(Duration::from_nanos);
        Ok(self_.change(|timeouts| timeouts.between_bytes = duration)?)
    }

    fn request_options_clone(_: &mut HostCx<'_>, self_: Borrow<RequestOptions>) -> Result<Own<RequestOptions>> {
        Ok(Own::new(self_.duplicate()))
    }

    fn response_new(
        cx: &mut HostCx<'_>,
        headers: Own<Headers>,
        contents: Option<StreamReader<u8>>,
        trailers: TrailersFuture,
    ) -> Result<(Own<Response>, Transmitted)> {
        let (body, transmitted) = Body::made(Message::Response, contents, trailers);
        body.begin(cx)?;
        Ok((Own::new(Response::made(headers.0, body)), transmitted))
    }

    fn response_get_status_code(_: &mut HostCx<'_>, self_: Borrow<Response>) -> Result<StatusCode> {
        Ok(self_.status.get().as_u16())
    }

    fn response_set_status_code(
        _: &mut HostCx<'_>,
        self_: Borrow<Response>,
        status_code: StatusCode,
    ) -> StdResult<(), Failure<()>> {
        self_.status.set(http::StatusCode::from_u16(status_code).map_err(drop)?);
        Ok(())
    }

    fn response_get_headers(_: &mut HostCx<'_>, self_: Borrow<Response>) -> Result<Own<Headers>> {
        Ok(Own(self_.headers.clone()))
    }

    fn response_consume_body(
        _: &mut HostCx<'_>,
        this: Own<Response>,
        res: FutureReader<StdResult<(), ErrorCode>>,
    ) -> Result<(StreamReader<u8>, TrailersFuture)> {
        Ok(this.take_body().consume(res))
    }
}
