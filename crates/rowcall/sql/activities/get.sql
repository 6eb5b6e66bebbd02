-- One activity as JSON. $1 id
select {columns} from public.rtx_activities a where a.id = $1
