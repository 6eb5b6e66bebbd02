-- Every app that has a uuid, with whether it is switched on.
select apps.name, app_ids.uuid, apps.enabled
from app_ids join apps on apps.name = app_ids.app
