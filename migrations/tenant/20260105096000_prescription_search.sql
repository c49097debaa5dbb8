-- A prescription or a customer is looked up at the counter while others sell: the indexes are built without holding
-- sales up, which no transaction can do.
-- migrate:up transaction:false

create index concurrently sales_by_prescription on sales (prescription_number) where prescription_number is not null;

create index concurrently sales_by_customer on sales (lower(customer_name) text_pattern_ops)
where customer_name is not null;

-- migrate:down transaction:false

drop index concurrently sales_by_customer;

drop index concurrently sales_by_prescription;
