-- Minor units of a decimal text in major units, exactly as money.Money.parse reads it; null for one that is no plain
-- number or has more decimals than the currency.
CREATE OR REPLACE TEMP MACRO minor_units(amount, exponent) AS CASE
    WHEN
        regexp_full_match(amount, '-?[0-9]+(\.[0-9]+)?')
        AND regexp_full_match(substr(split_part(amount, '.', 2), exponent + 1), '0*')
    THEN CAST(
        split_part(amount, '.', 1) || rpad(split_part(amount, '.', 2), exponent::INTEGER, '0') AS BIGINT
    )
END;

-- An amount for people: `USD 29.00`, `-KWD 1.234`, `JPY 1200`.
CREATE OR REPLACE TEMP MACRO shown(minor, currency, exponent) AS
    CASE WHEN minor < 0 THEN '-' ELSE '' END
    || currency || ' '
    || CASE
        WHEN exponent = 0 THEN abs(minor)::VARCHAR
        ELSE regexp_replace(
            repeat('0', greatest(0, exponent + 1 - length(abs(minor)::VARCHAR))::INTEGER) || abs(minor)::VARCHAR,
            '([0-9]{' || exponent || '})$',
            '.\1'
        )
    END;
