-- The one clock of leases, settle times and waits. A test sets it with `set kurir.now = '…'`.
create or replace function kurir_now() returns timestamptz language sql volatile as $$
    select coalesce(nullif(current_setting('kurir.now', true), '')::timestamptz, clock_timestamp())
$$;
