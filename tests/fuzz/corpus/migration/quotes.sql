--migrate:up
create function g() returns int begin atomic select case when 1=1 then 2 end; select E'\';'; end; /* a /* b; */ ; */ select $q$;$q$ -- c;
;
--migrate:down
