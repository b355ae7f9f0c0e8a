//! Pictures: the file and what is known of it, for its owner. The bytes are those that were stored, and
//! their SHA-256 is their entity tag.

use super::{
    answers::{ImageAnswer, ParamsAnswer, seconds},
    jobs::{failed, owned},
    page::page,
};
use crate::{
    app::App,
    auth::{Authenticated, User, Viewer},
    edge::{Fields, FromFields, PathId, Query},
    error::{ApiError, ErrorBody},
    images::read_parameters,
    jobs::{ImageRecord, JobError, Page, Scope},
};
use axum::{
    Json,
    body::Body,
    extract::State,
    http::{
        HeaderMap, HeaderValue, StatusCode,
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
        let file = app.blobs.open_file(&image.key).await.map_err(ApiError::internal)?;
        let Some(file) = file else { return Err(missing(&app, &viewer, id).await) };
        // As it lies there, piece by piece: a slow reader must not hold whole pictures in memory.
        let length = [(CONTENT_LENGTH, file.length)];
        (described, length, Body::from_stream(file.pieces)).into_response()
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

/// What to say of a picture without a file: it has been deleted meanwhile, or its file is lost.
async fn missing(app: &App, viewer: &Viewer, id: ImageId) -> ApiError {
    match picture(app, viewer, id).await {
        Ok(_) => ApiError::internal(format!("the picture {id} has no file")),
        Err(deleted) => deleted,
    }
}

/// RFC 9110 §13.1.2.
fn has_it(headers: &HeaderMap, tag: &str) -> bool {
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|given| given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag)
}

/// A picture in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImageEntry {
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
}

impl From<&ImageRecord> for ImageEntry {
    fn from(image: &ImageRecord) -> Self {
        Self {
            image: ImageAnswer::from(image),
            job: image.job.to_string(),
            index: image.index,
            bytes: image.bytes,
            created: seconds(image.created),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ImageList {
    /// Newest first.
    pub images: Vec<ImageEntry>,
    /// Give it as `before` for the next page; null on the last.
    pub next: Option<String>,
}

/// Which part of the list.
#[derive(Debug)]
pub struct ListQuery(Page<ImageId>);

impl FromFields for ListQuery {
    fn from_fields(fields: &mut Fields) -> Result<Self, ApiError> {
        page(fields, "a picture's id").map(Self)
    }
}

/// The caller's pictures, newest first.
#[utoipa::path(get, path = "/images", tag = "images",
    params(("limit" = Option<u32>, Query, description = "1 to 200, 50 by default"),
        ("before" = Option<String>, Query, description = "only older ones than this picture")),
    responses((status = 200, body = ImageList), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn list(
    State(app): State<App>,
    user: Authenticated<User>,
    Query(ListQuery(page)): Query<ListQuery>,
) -> Result<Json<ImageList>, ApiError> {
    if user.is_guest() {
        // All guests are one owner: each sees only what it has the secret of.
        return Ok(Json(ImageList { images: Vec::new(), next: None }));
    }
    let page = app.queue.images(owned(&user), page).await.map_err(failed)?;
    let images = page.images.iter().map(|found| ImageEntry::from(&found.image)).collect();
    Ok(Json(ImageList { images, next: page.next.map(|id| id.to_string()) }))
}

/// Delete a picture: its file and what is known of it. Its job stays, without it.
#[utoipa::path(delete, path = "/images/{id}", tag = "images", params(("id" = String, Path)),
    responses((status = 204, description = "It is gone"),
        (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn delete(
    State(app): State<App>,
    viewer: Viewer,
    PathId(id): PathId<ImageId>,
) -> Result<StatusCode, ApiError> {
    picture(&app, &viewer, id).await?;
    // A task of its own: a caller that hangs up in between must not leave the file behind.
    let (queue, blobs, owner) = (app.queue, app.blobs, viewer.user().subject().clone());
    let deleted = tokio::spawn(async move {
        let image = queue.delete_image(Scope::Owner(&owner), id).await?;
        if let Err(error) = blobs.delete(&image.key).await {
            tracing::warn!(%error, image = %id, "the file of a deleted picture is left to the next start");
        }
        Ok(())
    });
    deleted.await.map_err(ApiError::internal)?.map_err(failed)?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MetadataAnswer {
    #[serde(flatten)]
    pub image: ImageEntry,
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
    let Some(head) = head else { return Err(missing(&app, &viewer, id).await) };
    let parameters = read_parameters(&head).map_err(ApiError::internal)?;
    Ok(Json(MetadataAnswer {
        image: ImageEntry::from(&image),
        parameters,
        params: ParamsAnswer::from(&job.request),
    }))
}
