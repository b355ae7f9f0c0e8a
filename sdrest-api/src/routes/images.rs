//! Pictures: the file and what is known of it, for its owner. The bytes are those that were stored, and
//! their SHA-256 is their entity tag.

use super::{
    answers::{ImageAnswer, ParamsAnswer, seconds},
    jobs::{failed, owned},
};
use crate::{
    app::App,
    auth::Viewer,
    edge::{PathId, Query},
    error::{ApiError, ErrorBody},
    images::read_parameters,
    jobs::{ImageRecord, JobError},
};
use axum::{
    Json,
    body::Body,
    extract::State,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
        },
    },
    response::{IntoResponse, Response},
};
use sdrest_proto::id::ImageId;
use serde::Serialize;
use utoipa::ToSchema;

/// A picture's file.
#[utoipa::path(get, path = "/images/{id}", tag = "images", params(("id" = String, Path)), responses(
    (status = 200, description = "The file", content_type = "image/png", body = Vec<u8>),
    (status = 304, description = "The caller has it already"),
    (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn file(
    State(app): State<App>,
    viewer: Viewer,
    PathId(id): PathId<ImageId>,
    _query: Query<()>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let image = picture(&app, &viewer, id).await?;
    let tag = format!("\"{}\"", image.sha256);
    let mut response = if has_it(&headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let disposition = format!("inline; filename=\"{id}.png\"");
        let described =
            [(CONTENT_TYPE, "image/png".to_owned()), (CONTENT_DISPOSITION, disposition)];
        (described, body(&app, &image).await?).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, HeaderValue::from_str(&tag).map_err(ApiError::internal)?);
    // It may be kept, but whoever shows it again has to ask whether the caller still may see it.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

/// The picture, if it is the viewer's.
async fn picture(app: &App, viewer: &Viewer, id: ImageId) -> Result<ImageRecord, ApiError> {
    let found = app.queue.image(owned(viewer.user()), id).await;
    let visible = found.and_then(|found| {
        if viewer.shows(&app.job_secrets, found.image.job) {
            Ok(found.image)
        } else {
            Err(JobError::no_image(id))
        }
    });
    visible.map_err(failed)
}

/// The file as it lies there, piece by piece: a slow reader must not hold whole pictures in memory.
async fn body(app: &App, image: &ImageRecord) -> Result<([(HeaderName, u64); 1], Body), ApiError> {
    let found = app.blobs.open_file(&image.key).await.map_err(ApiError::internal)?;
    let file = found.ok_or_else(|| gone(image))?;
    Ok(([(CONTENT_LENGTH, file.length)], Body::from_stream(file.pieces)))
}

fn gone(image: &ImageRecord) -> ApiError {
    ApiError::internal(format!("the picture {} has no file", image.id))
}

/// RFC 9110 §13.1.2.
fn has_it(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag)
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MetadataAnswer {
    #[serde(flatten)]
    pub image: ImageAnswer,
    /// The job that made it.
    pub job: String,
    /// Its place among the job's pictures, from 0.
    pub index: u32,
    /// Length of the file.
    pub bytes: u64,
    /// Unix seconds.
    pub created: f64,
    /// The text in the file, in A1111's format.
    pub parameters: Option<String>,
    pub params: ParamsAnswer,
}

/// What is known of a picture.
#[utoipa::path(get, path = "/images/{id}/metadata", tag = "images", params(("id" = String, Path)), responses(
    (status = 200, body = MetadataAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn metadata(
    State(app): State<App>,
    viewer: Viewer,
    PathId(id): PathId<ImageId>,
    _query: Query<()>,
) -> Result<Json<MetadataAnswer>, ApiError> {
    let image = picture(&app, &viewer, id).await?;
    let job = app.queue.job(owned(viewer.user()), image.job).await.map_err(failed)?;
    let head = app.blobs.head(&image.key).await.map_err(ApiError::internal)?;
    let head = head.ok_or_else(|| gone(&image))?;
    let parameters = read_parameters(&head).map_err(ApiError::internal)?;
    Ok(Json(MetadataAnswer {
        image: ImageAnswer::from(&image),
        job: image.job.to_string(),
        index: image.index,
        bytes: image.bytes,
        created: seconds(image.created),
        parameters,
        params: ParamsAnswer::from(&job.request),
    }))
}
