-- The uuid of an app. ?1 app
select uuid from app_ids where app = ?1
