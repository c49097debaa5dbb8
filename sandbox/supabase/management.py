"""The Management API: each operation Tenantry uses, answered as the recorded responses are."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from aiohttp import web

from ..clock import Clock, stamp
from ..faults import standing
from ..refusal import Refusal
from ..store import Row
from . import regions
from .credentials import Keys
from .openapi import Input
from .projects import Projects, over_quota
from .settings import SupabaseSettings

VERSION = {"version": "17.6.1.111", "postgres_engine": "17", "release_channel": "ga"}
AUTH_INFO = {
    "name": "GoTrue",
    "version": "v2.180.0",
    "description": "GoTrue is a user registration and auth API",
}
DEFAULT_SIZE = {"free": "nano", "pro": "micro"}
DATABASE_STATUSES = {
    "ACTIVE_HEALTHY",
    "ACTIVE_UNHEALTHY",
    "COMING_UP",
    "GOING_DOWN",
    "INIT_FAILED",
    "REMOVED",
}
DATABASE_STATUSES |= {"RESTORING", "RESTARTING", "RESIZING"}
Answer = web.Response


def given(request: web.Request) -> Input:
    found: Input = request["input"]
    return found


def answer(body: Any, status: int = 200) -> Answer:
    return web.json_response(body, status=status)


class Management:
    def __init__(self, projects: Projects, clock: Clock, settings: SupabaseSettings, dice: random.Random) -> None:
        self._projects = projects
        self._clock = clock
        self._settings = settings
        self._dice = dice

    def routes(self) -> list[web.RouteDef]:
        project = "/v1/projects/{ref}"
        return [
            web.get("/v1/organizations", self.list_organizations),
            web.post("/v1/organizations", self.create_organization),
            web.get("/v1/organizations/{slug}", self.get_organization),
            web.get("/v1/organizations/{slug}/projects", self.find_projects),
            web.get("/v1/projects", self.list_projects),
            web.post("/v1/projects", self.create_project),
            web.get("/v1/projects/available-regions", self.available_regions),
            web.get(project, self.get_project),
            web.patch(project, self.rename_project),
            web.delete(project, self.delete_project),
            web.get(f"{project}/health", self.health),
            web.get(f"{project}/api-keys", self.api_keys),
            web.get(f"{project}/config/database/pooler", self.pooler),
            web.patch(f"{project}/database/password", self.set_password),
            web.post(f"{project}/pause", self.pause),
            web.get(f"{project}/restore", self.restore_versions),
            web.post(f"{project}/restore", self.restore),
            web.get(f"{project}/postgrest", self.get_postgrest),
            web.patch(f"{project}/postgrest", self.set_postgrest),
            web.get(f"{project}/config/auth", self.get_auth_config),
            web.patch(f"{project}/config/auth", self.set_auth_config),
            web.get(f"{project}/network-restrictions", self.get_restrictions),
            web.patch(f"{project}/network-restrictions", self.patch_restrictions),
            web.post(f"{project}/network-restrictions/apply", self.apply_restrictions),
        ]

    async def _project(self, request: web.Request) -> Row:
        return await self._projects.get(request.match_info["ref"])

    async def list_organizations(self, _: web.Request) -> Answer:
        rows = await self._projects.organizations()
        return answer([{"id": row["slug"], "slug": row["slug"], "name": row["name"]} for row in rows])

    async def create_organization(self, request: web.Request) -> Answer:
        slug = "".join(self._dice.choices("abcdefghijklmnopqrstuvwxyz", k=20))
        row = await self._projects.keep_organization(slug, given(request).body["name"], "free", 2)
        return answer({"id": row["slug"], "slug": row["slug"], "name": row["name"]}, 201)

    async def get_organization(self, request: web.Request) -> Answer:
        row = await self._projects.organization(request.match_info["slug"])
        return answer(
            {
                "id": row["slug"],
                "name": row["name"],
                "plan": row["plan"],
                "opt_in_tags": [],
                "allowed_release_channels": ["ga", "preview"],
            }
        )

    async def find_projects(self, request: web.Request) -> Answer:
        params = given(request).params
        await self._projects.organization(params["slug"])
        statuses = set(filter(None, (params["statuses"] or "").split(",")))
        limit, offset = params["limit"], params["offset"]
        rows, count = await self._projects.page(
            params["slug"],
            params["search"] or "",
            params["sort"],
            None if statuses else limit,
            0 if statuses else offset,
            lag_seconds(request),
        )
        if statuses:
            fitting = [row for row in rows if self._projects.status(row) in statuses]
            rows, count = fitting[offset : offset + limit], len(fitting)
        self._reorder(request, rows)
        return answer(
            {
                "projects": [self._list_row(row) for row in rows],
                "pagination": {"count": count, "limit": limit, "offset": offset},
            }
        )

    async def list_projects(self, request: web.Request) -> Answer:
        rows, _ = await self._projects.page(None, "", "created_asc", None, 0, lag_seconds(request))
        rows = [row for row in rows if not row["is_branch"]]
        self._reorder(request, rows)
        return answer([self._with_database(row) for row in rows])

    def _reorder(self, request: web.Request, rows: list[Row]) -> None:
        for rule in standing(request, "list_order"):
            order = rule.fault.get("order", "random")
            rows.reverse() if order == "reverse" else self._dice.shuffle(rows)

    async def create_project(self, request: web.Request) -> Answer:
        body = given(request).body
        if "region" in body and "region_selection" in body:
            raise Refusal(400, "Only one of region or region_selection can be specified.")
        if not body["name"].strip():
            raise Refusal(400, "name should not be empty")
        organization = await self._projects.organization(body["organization_slug"])
        for rule in standing(request, "quota"):
            refusal = over_quota(organization)
            message = rule.fault.get("message", refusal.body["message"])
            raise Refusal(rule.fault.get("code", refusal.status), message)
        project = await self._projects.create(
            organization,
            body["name"],
            self._choose_region(request, body),
            body.get("desired_instance_size") or DEFAULT_SIZE.get(organization["plan"], "micro"),
            body["db_pass"],
            stuck=self._stuck(request),
        )
        return answer({**project_row(project), "status": "UNKNOWN"}, 201)

    def _choose_region(self, request: web.Request, body: dict[str, Any]) -> str:
        wanted = body.get("region_selection")
        if wanted is None and "region" in body:
            wanted = {"type": "specific", "code": body["region"]}
        wanted = wanted or {"type": "smartGroup", "code": regions.DEFAULT_GROUP}
        chosen = regions.choose(wanted, full_regions(request))
        if chosen is None:
            raise Refusal(400, f"There is no capacity in {wanted['code']}. Please choose another region.")
        return chosen

    def _stuck(self, request: web.Request) -> dict[str, Any] | None:
        for rule in standing(request, "stuck"):
            seconds = rule.fault.get("seconds")
            return {
                "stuck_by": rule.id,
                "stuck_status": rule.fault.get("status", "COMING_UP"),
                "stuck_until": None if seconds is None else self._clock.now() + timedelta(seconds=seconds),
            }
        return None

    async def available_regions(self, request: web.Request) -> Answer:
        params = given(request).params
        await self._projects.organization(params["organization_slug"])
        return answer(regions.available(params["continent"], full_regions(request)))

    async def get_project(self, request: web.Request) -> Answer:
        return answer(self._with_database(await self._project(request)))

    async def rename_project(self, request: web.Request) -> Answer:
        project = await self._project(request)
        return answer(reference(await self._projects.rename(project, given(request).body["name"])))

    async def delete_project(self, request: web.Request) -> Answer:
        project = await self._project(request)
        if not self._projects.has_left_coming_up(project):
            raise Refusal(400, "Project not ready for deletion.")
        await self._projects.delete(project)
        return answer({**reference(project), "slug": project["ref"]})

    async def health(self, request: web.Request) -> Answer:
        project = await self._project(request)
        rows = []
        for service in given(request).params["services"]:
            status, error = self._projects.service_status(project, service)
            for rule in standing(request, "unhealthy"):
                if rule.fault.get("service") in (None, service):
                    status = rule.fault.get("status", "UNHEALTHY")
                    error = rule.fault.get("error", f"{service} does not answer")
            row: dict[str, Any] = {"name": service, "healthy": status == "ACTIVE_HEALTHY", "status": status}
            if service == "auth" and row["healthy"]:
                row["info"] = AUTH_INFO
            if error is not None:
                row["error"] = error
            rows.append(row)
        return answer(rows)

    async def api_keys(self, request: web.Request) -> Answer:
        project = await self._project(request)
        return answer(Keys(project).rows(reveal=given(request).params["reveal"] is True))

    async def pooler(self, request: web.Request) -> Answer:
        project = await self._projects.database_exists(await self._project(request))
        host, port = self._settings.pooler_host, self._settings.pooler_port
        user, database = project["owner_login"], project["database_name"]
        url = f"postgresql://{user}:[YOUR-PASSWORD]@{host}:{port}/{database}"
        return answer(
            [
                {
                    "identifier": project["ref"],
                    "database_type": "PRIMARY",
                    "db_user": user,
                    "db_host": host,
                    "db_port": port,
                    "db_name": database,
                    "connection_string": url,
                    "pool_mode": "transaction",
                    "default_pool_size": None,
                    "max_client_conn": None,
                    "is_using_scram_auth": True,
                    "connectionString": url,
                }
            ]
        )

    async def set_password(self, request: web.Request) -> Answer:
        await self._projects.set_password(await self._project(request), given(request).body["password"])
        return answer({"message": "Successfully updated password"})

    async def pause(self, request: web.Request) -> Answer:
        project = await self._project(request)
        organization = await self._projects.organization(project["organization_slug"])
        if organization["plan"] != "free":
            raise Refusal(400, "Projects on a paid plan cannot be paused.")
        if self._projects.status(project) not in ("ACTIVE_HEALTHY", "ACTIVE_UNHEALTHY"):
            raise Refusal(400, "Project is not in a state in which it can be paused.")
        await self._projects.pause(project)
        return web.Response(status=200)

    async def restore_versions(self, request: web.Request) -> Answer:
        await self._project(request)
        return answer({"available_versions": [VERSION]})

    async def restore(self, request: web.Request) -> Answer:
        project = await self._project(request)
        if self._projects.status(project) not in ("INACTIVE", "PAUSE_FAILED", "RESTORE_FAILED"):
            raise Refusal(400, "Project is not paused.")
        await self._projects.restore(project)
        return web.Response(status=200)

    async def get_postgrest(self, request: web.Request) -> Answer:
        project = await self._project(request)
        return answer({**project["postgrest"], "jwt_secret": project["jwt_secret"]})

    async def set_postgrest(self, request: web.Request) -> Answer:
        project = await self._project(request)
        wanted = {name: value for name, value in given(request).body.items() if name in project["postgrest"]}
        changed = await self._projects.change(project["ref"], postgrest={**project["postgrest"], **wanted})
        return answer(changed["postgrest"])

    async def get_auth_config(self, request: web.Request) -> Answer:
        return answer((await self._project(request))["auth_config"])

    async def set_auth_config(self, request: web.Request) -> Answer:
        project = await self._project(request)
        wanted = {name: value for name, value in given(request).body.items() if name in project["auth_config"]}
        changed = await self._projects.change(project["ref"], auth_config={**project["auth_config"], **wanted})
        return answer(changed["auth_config"])

    async def get_restrictions(self, request: web.Request) -> Answer:
        return answer((await self._project(request))["restrictions"])

    async def apply_restrictions(self, request: web.Request) -> Answer:
        project = await self._project(request)
        wanted = given(request).body
        config = {name: wanted.get(name, []) for name in ("dbAllowedCidrs", "dbAllowedCidrsV6")}
        kept = {"config": config, "entitlement": "allowed", "status": "applied"}
        return answer((await self._projects.change(project["ref"], restrictions=kept))["restrictions"], 201)

    async def patch_restrictions(self, request: web.Request) -> Answer:
        project = await self._project(request)
        wanted = given(request).body
        config = {}
        for name in ("dbAllowedCidrs", "dbAllowedCidrsV6"):
            removed = set(wanted.get("remove", {}).get(name, []))
            kept = [cidr for cidr in project["restrictions"]["config"][name] if cidr not in removed]
            config[name] = kept + [c for c in wanted.get("add", {}).get(name, []) if c not in kept]
        restrictions = {"config": config, "entitlement": "allowed", "status": "applied"}
        await self._projects.change(project["ref"], restrictions=restrictions)
        typed = [{"address": c, "type": "v4"} for c in config["dbAllowedCidrs"]]
        typed += [{"address": c, "type": "v6"} for c in config["dbAllowedCidrsV6"]]
        return answer({**restrictions, "config": {"dbAllowedCidrs": typed}})

    def _with_database(self, project: Row) -> dict[str, Any]:
        row = {**project_row(project), "status": self._projects.status(project)}
        return {**row, "database": {"host": f"db.{project['ref']}.supabase.co", **VERSION}}

    def _list_row(self, project: Row) -> dict[str, Any]:
        status = self._projects.status(project)
        place = {"region": project["region"], "cloud_provider": "AWS"}
        database = {
            **place,
            "infra_compute_size": project["instance_size"],
            "status": status if status in DATABASE_STATUSES else "UNKNOWN",
            "identifier": project["ref"],
            "type": "PRIMARY",
        }
        return {
            **place,
            "ref": project["ref"],
            "name": project["name"],
            "is_branch": project["is_branch"],
            "status": status,
            "inserted_at": stamp(project["created_at"]),
            "databases": [database],
        }


def project_row(project: Row) -> dict[str, Any]:
    return {
        "id": project["ref"],
        "ref": project["ref"],
        "organization_id": project["organization_slug"],
        "organization_slug": project["organization_slug"],
        "name": project["name"],
        "region": project["region"],
        "created_at": stamp(project["created_at"]),
    }


def reference(project: Row) -> dict[str, Any]:
    return {"id": project["id"], "ref": project["ref"], "name": project["name"]}


def lag_seconds(request: web.Request) -> float:
    return max((rule.fault["seconds"] for rule in standing(request, "lagging_list")), default=0.0)


def full_regions(request: web.Request) -> set[str]:
    return {str(rule.fault["region"]) for rule in standing(request, "capacity")}
