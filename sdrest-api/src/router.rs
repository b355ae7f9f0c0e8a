//! Every route on one page, each with what it asks of its callers. A route that is not in this table does
//! not exist; a route in it has its gate, its place in the OpenAPI document, and both of its prefixes.

use crate::{
    app::App,
    auth::{Gate, Policies, Rule, gate},
    edge::{
        CrossSite, Hosts, Outermost, check_host, method_not_allowed, not_found, note_route,
        outermost, refuse_cross_site,
    },
    openapi::{self, Document},
    routes::{
        api_keys, auth, catalog, conversations, docs, generate, images, jobs, models, queue,
        system, who,
    },
};
use axum::{
    Extension, Router,
    middleware::{from_fn, from_fn_with_state},
};
use sdrest_proto::identity::Permission::{
    Generate, KeysOwn, ModelsManage, ModelsView, QueueViewOwn,
};
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouter},
    routes,
};

/// The one table. Below `/api/v1` and `/api`.
fn table() -> Vec<(Rule, UtoipaMethodRouter<App>)> {
    let open = Rule::open();
    let known = Rule::known();
    let signed_in = Rule::signed_in();
    let views = Rule::needs(ModelsView).public_able();
    let own_jobs = Rule::needs(QueueViewOwn);
    let one_job = own_jobs.guests_job();
    // A key that may only look must not end or delete anything.
    let ends_job = Rule::needs(Generate).guests_job();
    let own_keys = Rule::needs(KeysOwn);
    let manages = Rule::needs(ModelsManage);
    let generates = Rule::needs(Generate).generation();
    vec![
        // Signing in.
        (open, routes!(auth::login)),
        (open, routes!(auth::refresh)),
        (open, routes!(who::methods)),
        (open, routes!(conversations::begin)),
        (open, routes!(conversations::poll, conversations::cancel)),
        (open, routes!(conversations::answer)),
        (open, routes!(conversations::events)),
        (signed_in, routes!(auth::logout)),
        (known, routes!(who::me)),
        (known, routes!(who::validate)),
        (own_keys, routes!(api_keys::list, api_keys::make)),
        (own_keys, routes!(api_keys::revoke)),
        // How the server is.
        (known.public_able(), routes!(system::health)),
        (known.public_able(), routes!(system::status)),
        (known, routes!(system::version)),
        (known.public_able(), routes!(system::openapi)),
        (known.public_able(), routes!(docs::page)),
        // What generation accepts.
        (views, routes!(models::list)),
        (views, routes!(models::types)),
        (views, routes!(models::directories)),
        (manages, routes!(models::refresh)),
        (manages, routes!(models::load)),
        (manages, routes!(models::unload)),
        (views, routes!(catalog::samplers)),
        (views, routes!(catalog::schedulers)),
        (views, routes!(catalog::parameters)),
        // Generation.
        (generates, routes!(generate::txt2img)),
        (own_jobs, routes!(jobs::list)),
        (one_job, routes!(jobs::get)),
        (ends_job, routes!(jobs::cancel)),
        (one_job, routes!(jobs::events)),
        (own_jobs.public_able(), routes!(queue::status)),
        (one_job, routes!(queue::job)),
        (own_jobs, routes!(images::list)),
        (one_job, routes!(images::file)),
        (ends_job, routes!(images::delete)),
        (one_job, routes!(images::metadata)),
    ]
}

/// The routes that stand at the root, and below the prefixes too.
fn root_table() -> Vec<(Rule, UtoipaMethodRouter<App>)> {
    vec![(Rule::open(), routes!(system::jwks))]
}

/// What stands around the routes.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    pub hosts: Hosts,
    pub site: CrossSite,
}

/// The whole service.
pub fn router(app: App, around: Surroundings) -> Router {
    let policies = app.authd.policies().clone();
    let openapi = document();
    let (document, page) = (Document::new(&openapi), docs::Page::new(&openapi));
    let native = gated(table(), &policies).merge(gated(root_table(), &policies));
    Router::new()
        .nest("/api/v1", native.clone())
        .nest("/api", native)
        .merge(gated(root_table(), &policies))
        .route_layer(from_fn(note_route))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app)
        .layer(Extension(document))
        .layer(Extension(page))
        .layer(from_fn_with_state(around.site, refuse_cross_site))
        .layer(from_fn_with_state(around.hosts, check_host))
        .layer(from_fn_with_state(Outermost { policies }, outermost))
}

/// The OpenAPI document of the table.
pub fn document() -> utoipa::openapi::OpenApi {
    let native = documented(table()).merge(documented(root_table()));
    let all = OpenApiRouter::with_openapi(openapi::skeleton())
        .nest("/api/v1", native)
        .merge(documented(root_table()));
    let mut document = all.into_openapi();
    openapi::name_operations(&mut document);
    document
}

fn documented(table: Vec<(Rule, UtoipaMethodRouter<App>)>) -> OpenApiRouter<App> {
    table.into_iter().fold(OpenApiRouter::new(), |router, (rule, (schemas, mut paths, methods))| {
        openapi::annotate(&mut paths, rule);
        router.routes((schemas, paths, methods))
    })
}

fn gated(table: Vec<(Rule, UtoipaMethodRouter<App>)>, policies: &Policies) -> Router<App> {
    let gated = table.into_iter().fold(
        OpenApiRouter::new(),
        |router, (rule, (schemas, paths, methods))| {
            let state = Gate { policies: policies.clone(), rule };
            router.routes((schemas, paths, methods.route_layer(from_fn_with_state(state, gate))))
        },
    );
    gated.split_for_parts().0
}
